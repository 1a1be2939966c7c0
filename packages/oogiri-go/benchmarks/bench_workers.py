"""Checking pictures in two processes against one: bench_workers.py --out FILE [--device cpu] [--quick].

Wall time, for process time does not see a second process; starting them is part of it. The machine must be idle.
"""

import argparse
import io
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from oogiri_go import __version__
from oogiri_go._check import check_pictures
from PIL import Image


def make_pictures(folder: Path, count: int) -> Path:
    """A zip file of JPEGs of 640 x 480 and 50 to 65 KB."""
    path = folder / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            rng = random.Random(number)
            noise = Image.frombytes("L", (640, 480), rng.randbytes(640 * 480)).convert("RGB")
            ground = Image.new("RGB", (640, 480), tuple(rng.randbytes(3)))
            buffer = io.BytesIO()
            Image.blend(ground, noise, 0.12).save(buffer, "JPEG")
            archive.writestr(f"{number}.jpg", buffer.getvalue())
    return path


def seconds(path: Path, pictures: int, repeats: int, workers: int) -> float:
    """Wall time of one check of every picture, each many times."""
    names = [str(number) for number in range(pictures)] * repeats
    start = time.perf_counter()
    good = sum(not one.code for one in check_pictures(path, names, check="decode", workers=workers))
    assert good == len(names)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    """Append one row for each number of processes."""
    parser = argparse.ArgumentParser(description="Checking pictures in two processes against one.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="nothing here uses a GPU")
    parser.add_argument("--quick", action="store_true", help="few pictures, to see that it runs")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda":
        print("nothing here uses a GPU")
        return 0
    pictures, repeats, rounds = (20, 2, 1) if arguments.quick else (400, 40, 5)
    times: dict[int, list[float]] = {2: [], 1: []}
    with tempfile.TemporaryDirectory() as name:
        archive = make_pictures(Path(name), pictures)
        size = repeats * archive.stat().st_size
        for _ in range(rounds):
            for workers, found in times.items():
                found.append(1e6 * seconds(archive, pictures, repeats, workers))

    from sail_core.bench import append_rows, make_row  # here, because every process that is started imports this file

    median = {workers: sorted(found)[rounds // 2] for workers, found in times.items()}
    noisy = max(map(max, times.values())) > 1.1 * median[1] or max(times[2]) > 1.1 * min(times[2])
    names = {2: "oogiri_go", 1: "one_process"}
    rows = [
        make_row(
            "decode_workers",
            name,
            impl_version=__version__,
            mode="wall",
            shape=[pictures * repeats],
            dtype="jpeg",
            layout="zip",
            rep=rounds,
            median_us=median[workers],
            p20_us=min(times[workers]),
            p80_us=max(times[workers]),
            first_us=times[workers][0],
            model_bytes=size,
            gbps=size / median[workers] * 1e-3,
            correct=True,
            noisy=noisy,
            peer_ratio={names[3 - workers]: median[3 - workers] / median[workers]},
        )
        for workers, name in names.items()
    ]
    print(f"two processes against one: {median[1] / median[2]:.2f} ({median[2] / 1e6:.1f} and {median[1] / 1e6:.1f} s)")
    append_rows(arguments.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
