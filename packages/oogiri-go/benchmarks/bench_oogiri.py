"""Reading, building and checking against `datasets`: bench_oogiri.py --out FILE [--device cpu] [--quick].

All work is on one thread and in process time. The data are made up: 134,148 records, the size of Oogiri-GO, in its
three languages; pictures are JPEGs of 640 x 480. A peer is timed only if its result, a number that depends on every
record, agrees.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import PIL
import pyarrow as pa
from oogiri_go import OogiriDataset, __version__, build, dedup_key, read_jsonl
from oogiri_go._check import check_pictures
from oogiri_go._synthetic import encoded, lines, picture
from PIL import Image
from sail_core.bench import append_rows, compare

COUNT = 134_148
_PEER = datasets.__version__
VERSIONS = {"oogiri_go": __version__, "datasets_map": _PEER, "datasets_end_to_end": _PEER, "pillow": PIL.__version__}


def make_lines(folder: Path, count: int) -> list[Path]:
    """Three files with the languages' shares of Oogiri-GO."""
    shares = {"en": 23_769, "cn": 48_839, "jp": 61_540}
    paths = []
    for name, share in shares.items():
        lang = {"en": "en", "cn": "zh", "jp": "ja"}[name]
        path = folder / f"{name}.jsonl"
        path.write_bytes(
            b"".join(line + b"\n" for line in lines(count * share // COUNT, lang=lang, seed=0, pictures=[]))
        )
        paths.append(path)
    return paths


def make_pictures(folder: Path, count: int) -> Path:
    """A zip file of JPEGs of 640 x 480 and 50 to 65 KB."""
    path = folder / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            noise = Image.frombytes("L", (640, 480), random.Random(number).randbytes(640 * 480)).convert("RGB")
            data = encoded(Image.blend(picture(number, size=(640, 480)), noise, 0.12))
            assert 50_000 <= len(data) <= 65_000, len(data)
            archive.writestr(f"{number}.jpg", data)
    return path


def check_row(game: str, question: str | None, image: str | None, text: str, star: int | None) -> bool:
    """The rules that the peer checks, fewer than ours."""
    if game not in ("T2T", "I2T", "IT2T") or not text or text.isspace() or len(text) > 2000:
        return False
    if (question is None if game == "T2T" else image is None) or not unicodedata.is_normalized("NFC", text):
        return False
    return star is None or star >= 0


def check_batch(batch: dict[str, list[Any]]) -> dict[str, list[bool]]:
    """The peer's way: a function over a batch of columns."""
    columns = (batch[name] for name in ("type", "question", "image", "text", "star"))
    return {"good": [check_row(*row) for row in zip(*columns, strict=True)]}


def ours_read(paths: Sequence[Path]) -> float:
    """Read and validate without identifiers."""
    return float(sum(len(one.text) for path in paths for one in read_jsonl(path, with_id=False)))


def ours_keys(paths: Sequence[Path]) -> float:
    """Read and validate with identifiers and the key by which duplicates are found."""
    total = 0
    for path in paths:
        for one in read_jsonl(path):
            dedup_key(one)
            total += len(one.text)
    return float(total)


def load(paths: Sequence[Path], cache: Path) -> datasets.Dataset:
    """The peer's loading, from nothing."""
    shutil.rmtree(cache, ignore_errors=True)
    return datasets.load_dataset("json", data_files=list(map(str, paths)), split="train", cache_dir=str(cache))


def mapped(data: datasets.Dataset, column: str = "text") -> float:
    """The peer's batched map, and the sum that shows that it saw every record."""
    found = data.map(check_batch, batched=True, load_from_cache_file=False, keep_in_memory=True)
    assert all(found.data.column("good").to_pylist())
    return float(sum(map(len, found.data.column(column).to_pylist())))


def end_to_end(paths: Sequence[Path], cache: Path) -> float:
    """The peer's loading and map."""
    return mapped(load(paths, cache))


def ours_build(paths: Sequence[Path], folder: Path) -> float:
    """A whole build of the metadata."""
    out = folder / "build"
    shutil.rmtree(out, ignore_errors=True)
    result = build(paths, out=out)
    return float(sum(result.rows.values()) + result.dropped["exact"])


def ours_columns(root: Path) -> float:
    """Every column but the pictures."""
    return float(len(OogiriDataset(root).table))


def ours_records(root: Path) -> float:
    """Every record as an object."""
    return float(sum(1 for _ in OogiriDataset(root)))


def theirs_columns(root: Path, cache: Path) -> float:
    """The same with the peer, which caches in Arrow first; the loading is not counted, the reading is."""
    data = datasets.load_dataset(str(root), split="train", cache_dir=str(cache))
    return float(data.remove_columns("image").with_format("arrow")[:].num_rows)


def theirs_records(root: Path, cache: Path) -> float:
    """Every row of the peer as a dictionary."""
    data = datasets.load_dataset(str(root), split="train", cache_dir=str(cache)).remove_columns("image")
    return float(sum(1 for _ in data))


def decode(path: Path, count: int) -> float:
    """Check pictures by decoding them."""
    return float(sum(not one.code for one in check_pictures(path, map(str, range(count)), check="decode")))


def plain_decode(path: Path, count: int) -> float:
    """Pillow alone: open and load."""
    good = 0
    with zipfile.ZipFile(path) as archive:
        for number in range(count):
            with archive.open(f"{number}.jpg") as file, Image.open(file) as image:
                image.load()
                good += 1
    return float(good)


def rows_of(
    op: str, implementations: dict[str, Callable[..., float]], truth: float, count: int, size: int, seconds: float
) -> list[dict[str, Any]]:
    """Compare; the shape is the number of records or pictures, and `gbps` the bytes of the source over the time."""
    rows = compare(
        op, implementations, lambda _: [], reference=lambda: truth, tolerance=0.0, mode="cpu", shape=[count],
        dtype="records", layout="jsonl", versions=VERSIONS, seconds=seconds, model_bytes=size,
    )  # fmt: skip
    for row in rows:
        rate = f"{count / row['median_us'] * 1e3:,.0f} thousand a second" if row["median_us"] else "wrong"
        print(f"{op:16} {row['impl']:20} {rate}{', noisy' * bool(row['noisy'])} {row['peer_ratio']}", flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Reading, building and checking against the library datasets.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="nothing here uses a GPU")
    parser.add_argument("--quick", action="store_true", help="few records, to see that it runs")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda":
        print("nothing here uses a GPU")
        return 0
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    datasets.disable_progress_bars()
    count, pictures, seconds = (5_000, 20, 0.2) if arguments.quick else (COUNT, 400, 4.0)
    correct = True

    def keep(rows: list[dict[str, Any]]) -> None:
        nonlocal correct
        append_rows(arguments.out, rows)
        correct &= all(row["correct"] for row in rows)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = make_lines(folder, count)
        count = sum(1 for path in paths for _ in path.open("rb"))
        letters, size = ours_read(paths), sum(path.stat().st_size for path in paths)
        data = load(paths, folder / "loaded")
        ours = {"oogiri_go": partial(ours_read, paths)}
        ours["datasets_map"] = partial(mapped, data)
        ours["datasets_end_to_end"] = partial(end_to_end, paths, folder / "cache")
        keep(rows_of("read", ours, letters, count, size, seconds))
        keep(rows_of("read_id_key", {"oogiri_go": partial(ours_keys, paths)}, letters, count, size, seconds))
        keep(rows_of("build", {"oogiri_go": partial(ours_build, paths, folder)}, float(count), count, size, seconds))
        root = folder / "build"
        train, size = len(OogiriDataset(root)), sum(path.stat().st_size for path in (root / "data").glob("train-*"))
        theirs_columns(root, folder / "built")  # fills the peer's cache
        for op, mine, peer in (("columns", ours_columns, theirs_columns), ("records", ours_records, theirs_records)):
            pair = {"oogiri_go": partial(mine, root), "datasets_map": partial(peer, root, folder / "built")}
            keep(rows_of(op, pair, float(train), train, size, seconds))
        archive = make_pictures(folder, pictures)
        pair = {"oogiri_go": partial(decode, archive, pictures), "pillow": partial(plain_decode, archive, pictures)}
        keep(rows_of("decode_verify", pair, float(pictures), pictures, archive.stat().st_size, seconds))
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
