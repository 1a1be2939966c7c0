"""Time and memory against size: bench_growth.py --out FILE [--device cpu] [--quick].

The shape of a row is the number that grows and its layout says what is counted: records, or pictures. Reading and
dividing go over texts in one language, a build over a file of them; near duplicates are looked for among all answers,
the widest scope; pictures are JPEGs of 160 x 120, each with one record. Every call begins with empty caches, as a
process does. The results are held against Python's json, against sets of folded texts, and against what was put in.

`peak_bytes`, results and all, is what Python holds at most for duplicates and division, exactly, and what the process
grows by for the others, which also work outside Python. Memory that is free inside a process hides what a call needs,
so each operation has a process of its own, in which memory is counted before anything is timed. A build holds up to
150,000 rows before it takes to the disk.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import PIL
import pyarrow as pa
from bench_oogiri import end_to_end, ours_build, ours_read, plain_decode
from oogiri_go import Record, __version__, _groups, _minhash, _record, _split, dedup, read_jsonl, split, verify
from oogiri_go._synthetic import encoded, lines, picture
from sail_core.bench import append_rows, compare, peak_resident

VERSIONS = {"oogiri_go": __version__, "datasets": datasets.__version__, "pillow": PIL.__version__}
RECORDS = [1_000 * 2**at for at in range(8)]
SIZES = {"records": RECORDS, "dedup": RECORDS, "dedup_near": [125 * 2**at for at in range(7)], "split": RECORDS}
SIZES |= {"build": [8_000 * 2**at for at in range(7)], "verify": [64 * 2**at for at in range(7)]}
Call = Callable[[], Sequence[float]]


class Case(NamedTuple):
    """What is done at one size: ours, what must come of it, found after memory was counted, and the peer."""

    ours: Call
    truth: Call
    peers: Mapping[str, Call] = MappingProxyType({})


def write_lines(folder: Path, count: int) -> Path:
    """A file of records in English."""
    path = folder / f"{count}.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines(count, lang="en", seed=0, pictures=[])))
    return path


def parsed(path: Path) -> list[dict[str, Any]]:
    """The same file by Python's json."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def plain(text: str) -> str:
    """A text as it is compared, for ASCII."""
    return " ".join(text.casefold().split())


def forget() -> None:
    """Empty the caches of texts that were seen."""
    for module in (_groups, _minhash, _record, _split):
        for value in vars(module).values():
            getattr(value, "cache_clear", lambda: None)()


def read_case(folder: Path, count: int) -> Case:
    """Read and validate, one record after the other."""
    path = write_lines(folder, count)
    peer = {"datasets": lambda: [end_to_end([path], folder / "cache")]}
    return Case(lambda: [ours_read([path])], lambda: [sum(len(row["text"]) for row in parsed(path))], peer)


def dedup_case(folder: Path, count: int) -> Case:
    """Exact duplicates, in the prompt."""
    path = write_lines(folder, count)
    records = list(read_jsonl(path, lang="en"))

    def truth() -> list[float]:
        return [len({(row["image"] or plain(row["question"]), plain(row["text"])) for row in parsed(path)})]

    return Case(lambda: [forget() or len(dedup(records).kept)], truth)


def near_case(folder: Path, count: int) -> Case:
    """Near duplicates among answers of random words, half of which repeat another but for a mark."""
    rng = random.Random(0)
    texts = [" ".join(f"{rng.randrange(16**6):06x}" for _ in range(6)) for _ in range(count // 2)]
    texts += [f"{text} !" for text in texts]
    records = [Record("", "T2T", "Why?", None, text, None, "en") for text in texts]
    return Case(lambda: [forget() or len(dedup(records, near=0.8, scope="all").kept)], lambda: [count // 2])


def split_case(folder: Path, count: int) -> Case:
    """Divide by prompt; nothing is lost and no prompt is in two parts."""
    records = list(read_jsonl(write_lines(folder, count), lang="en"))

    def run() -> list[float]:
        forget()
        parts = split(records)
        return [len(parts.train) + len(parts.validation) + len(parts.test)]

    def truth() -> list[float]:
        parts = split(records)
        names = [
            {one.image or plain(one.question or "") for one in part}
            for part in (parts.train, parts.validation, parts.test)
        ]
        return [len(records) if len(set.union(*names)) == sum(map(len, names)) else -1]

    return Case(run, truth)


def build_case(folder: Path, count: int) -> Case:
    """A whole build of the metadata."""
    path = write_lines(folder, count)
    return Case(lambda: [forget() or ours_build([path], folder)], lambda: [count])


def verify_case(folder: Path, count: int) -> Case:
    """Pictures and the records that name them."""
    root = folder / f"{count}-pictures"
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.jpg", encoded(picture(number)))
    row = {"type": "I2T", "question": None, "text": "An answer.", "star": 1}
    rows = [json.dumps(row | {"image": str(number)}) for number in range(count)]
    (root / "en.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")

    def run() -> list[float]:
        found = verify(root)
        return [found.pictures, found.records, len(found.codes)]

    def peer() -> list[float]:
        return [plain_decode(root / "images.zip", count), count, 0]

    return Case(run, lambda: [count, count, 0], {"pillow": peer})


CASES = {"records": read_case, "dedup": dedup_case, "dedup_near": near_case, "split": split_case}
CASES |= {"build": build_case, "verify": verify_case}


def rows_of(what: str, sizes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """The rows of one operation: memory at every size first, then the times."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    datasets.disable_progress_bars()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {size: CASES[what](folder, size) for size in sizes}
        cases[sizes[0]].ours()  # warm
        peak = peak_python if what in ("dedup", "dedup_near", "split") else peak_resident
        memory = {size: peak(case.ours) for size, case in cases.items()}
        for size, (ours, truth, peers) in cases.items():
            found = compare(
                f"growth_{what}",
                {"oogiri_go": partial(_call, ours), **{peer: partial(_call, call) for peer, call in peers.items()}},
                lambda _: [],
                reference=partial(_call, truth),
                tolerance=0.0,
                mode="run",
                shape=[size],
                dtype="jpeg" if what == "verify" else "jsonl",
                layout="pictures" if what == "verify" else "records",
                versions=VERSIONS,
                seconds=seconds,
            )
            found[0]["peak_bytes"] = memory[size]
            rows += found
            print(*(line(row) for row in found), sep="\n", flush=True)
        shutil.rmtree(folder / "cache", ignore_errors=True)
    return rows


def peak_python(call: Call) -> int:
    """Most bytes that Python holds beyond what it held before."""
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def _call(call: Call) -> list[float]:
    return [float(value) for value in call()]


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    time = f"{row['median_us'] / 1e3:.2f} ms" if row["median_us"] else "wrong"
    memory = "" if row["peak_bytes"] is None else f", {row['peak_bytes'] / 1e6:.1f} MB"
    return f"{row['op']} {row['shape'][0]} {row['impl']}: {time}{memory}{', noisy' * bool(row['noisy'])}"


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Time and memory against the number of records and pictures.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="nothing here uses a GPU")
    parser.add_argument("--quick", action="store_true", help="three small sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, help="what grows")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda":
        print("nothing here uses a GPU")
        return 0
    correct = True
    for what in arguments.only:
        sizes = SIZES[what][:3] if arguments.quick else SIZES[what]
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows = pool.submit(rows_of, what, sizes, 0.02 if arguments.quick else 0.3).result()
        append_rows(arguments.out, rows)
        correct &= all(row["correct"] for row in rows)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
