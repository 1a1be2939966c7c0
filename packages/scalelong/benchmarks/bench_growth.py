"""Time and memory of scaled skips against size: bench_growth.py --out FILE [--device cpu] [--quick].

Operation ``growth_batch`` is forward and backward of a small UNet2DModel with attached constants beside the plain net
and counts the images of a batch, ``growth_map`` the same and counts the pixels of an image; the net has no attention,
whose cost is quadratic in the pixels with and without us. ``growth_concat`` is the scaled concatenation alone, forward,
and counts the pixels of a map; maps of 2^17 elements and more take the form of four passes. A row's shape is the count
alone, `nbytes` is of the images or of one map, and `peak_bytes` is what a warm call holds beyond its inputs. A net is
timed only if loss and first gradient agree with its own in float64.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from bench_scaling import Step
from sail_core.bench import append_rows, compare, peak_bytes
from scalelong import __version__, attach
from scalelong import functional as F
from torch import Tensor

SIDES = (8, 16, 32, 64, 128, 256)
# By operation: what is counted, and the shape of the images or maps for each count.
SERIES: dict[str, tuple[str, dict[int, tuple[int, ...]]]] = {
    "growth_batch": ("images", {2**i: (2**i, 3, 16, 16) for i in range(7)}),
    "growth_map": ("pixels", {side**2: (1, 3, side, side) for side in (8, 16, 32, 64, 96, 128)}),
    "growth_concat": ("pixels", {side**2: (4, 64, side, side) for side in SIDES}),
}
Prepared = tuple[dict[str, Callable[..., Any]], Callable[[int], list[Tensor]], Callable[..., Any], str]


def networks(shape: Sequence[int], device: Any) -> Prepared:
    """Steps of the net with and without factors, their inputs, the truth and the mode."""

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x, t = torch.randn(*shape, generator=generator), torch.randint(1000, shape[:1], generator=generator)
        return [x.to(device), t.to(device)]

    torch.manual_seed(0)
    plain = diffusers.UNet2DModel(
        sample_size=shape[-1],
        block_out_channels=(32, 64),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    )
    scaled = copy.deepcopy(plain)
    attach(scaled, "cs", kappa=0.7)
    steps = {name: Step(net, device, inputs(0)) for name, net in (("scalelong_cs", scaled), ("plain", plain))}
    return steps, inputs, lambda *_: [torch.ones(()), torch.ones(())], "fwdbwd"


def concatenations(shape: Sequence[int], device: Any) -> Prepared:
    """The form of four passes and its reference, which is the truth too."""

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(*shape, generator=generator).to(device) for _ in range(2)]

    runs = {"scalelong": partial(F.scaled_concat, kappa=0.7), "reference": partial(F.scale_then_cat, kappa=0.7)}
    return runs, inputs, lambda h, s: F.scale_then_cat(h.double(), s.double(), 0.7), "fwd"


def measure(op: str, size: int, shape: Sequence[int], device: Any, seconds: float) -> list[dict[str, Any]]:
    """The two rows of one size."""
    runs, inputs, truth, mode = (concatenations if op == "growth_concat" else networks)(shape, device)
    rows = compare(
        op,
        runs,
        inputs,
        reference=truth,
        tolerance=1e-2 if mode == "fwdbwd" else 1e-6,
        mode=mode,
        shape=[size],
        dtype="float32",
        layout=SERIES[op][0],
        device=device,
        versions={name: diffusers.__version__ if name == "plain" else __version__ for name in runs},
        seconds=seconds,
    )
    given = inputs(0)
    for row in rows:
        row["nbytes"] = given[0].nbytes
        row["peak_bytes"] = peak_bytes(partial(runs[row["impl"]], *given), device)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append two rows for each size; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="Time and memory of scaled skips against size.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="the three smallest sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=SERIES, default=list(SERIES), help="what grows")
    arguments = parser.parse_args(argv)
    correct = True
    for op in arguments.only:
        counted, shapes = SERIES[op]
        for size, shape in list(shapes.items())[: 3 if arguments.quick else None]:
            rows = measure(op, size, shape, arguments.device, 0.02 if arguments.quick else 0.3)
            append_rows(arguments.out, rows)
            for row in rows:
                correct &= row["correct"]
                cost = f"{row['median_us'] / 1e3:.3f} ms" if row["correct"] else f"wrong by {row['rel_err']}"
                noisy = ", noisy" * bool(row["noisy"])
                print(f"{op} {size} {counted} {row['impl']}: {cost}, {row['peak_bytes'] / 2**20:.2f} MiB{noisy}")
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
