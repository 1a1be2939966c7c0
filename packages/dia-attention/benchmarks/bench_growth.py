"""Time and memory of a training step with DIA against size: bench_growth.py --out FILE [--device cpu] [--quick].

Forward and backward of a CIFAR ResNet with DIA beside the plain net. Operation ``growth_batch`` counts the images of a
batch, ``growth_depth`` the residual blocks, ``growth_side`` the pixels of an image. A row's shape is that count alone,
`nbytes` is of the images, and `peak_bytes` is what a warm step holds beyond parameters and images. A net is timed only
if loss and first gradient agree with its own in float64.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from dia_attention import __version__, cifar_resnet
from dia_attention._bench import Step
from sail_core.bench import append_rows, compare, peak_bytes
from torch import Tensor

# By operation: what is counted, and for each count depth, batch and side.
SERIES: dict[str, tuple[str, dict[int, tuple[int, int, int]]]] = {
    "growth_batch": ("images", {2**i: (29, 2**i, 32) for i in range(7)}),
    "growth_depth": ("blocks", {3 * 2**i: (9 * 2**i + 2, 4, 16) for i in range(7)}),
    "growth_side": ("pixels", {side**2: (29, 1, side) for side in (8, 16, 32, 64, 128, 256)}),
}


def measure(op: str, size: int, case: tuple[int, int, int], device: Any, seconds: float) -> list[dict[str, Any]]:
    """The two rows of one size."""
    depth, batch, side = case

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(batch, 3, side, side, generator=generator)
        return [images.to(device), torch.randint(10, (batch,), generator=generator).to(device)]

    given = inputs(0)
    steps = {}
    for name, attention in (("dia_attention", "dia"), ("plain", None)):
        torch.manual_seed(0)
        net = cifar_resnet(depth, attention=attention)
        steps[name] = Step(net, "nchw", device, given[0].cpu(), given[1].cpu())
    rows = compare(
        op,
        steps,
        inputs,
        reference=lambda *_: [torch.ones(()), torch.ones(())],
        tolerance=5e-2,  # float32 rounding alone moves the first gradient of 164 layers by 1 to 2 %
        mode="fwdbwd",
        shape=[size],
        dtype="float32",
        layout=SERIES[op][0],
        device=device,
        versions=dict.fromkeys(steps, __version__),
        seconds=seconds,
    )
    for row in rows:
        row["nbytes"] = given[0].nbytes
        row["peak_bytes"] = peak_bytes(partial(steps[row["impl"]], *given), device)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append two rows for each size; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="Time and memory of a training step with DIA against size.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="the three smallest sizes, to see that it runs")
    arguments = parser.parse_args(argv)
    correct = True
    for op, (counted, cases) in SERIES.items():
        for size, case in list(cases.items())[: 3 if arguments.quick else None]:
            rows = measure(op, size, case, arguments.device, 0.02 if arguments.quick else 0.3)
            append_rows(arguments.out, rows)
            for row in rows:
                correct &= row["correct"]
                cost = f"{row['median_us'] / 1e3:.1f} ms" if row["correct"] else f"wrong by {row['rel_err']}"
                noisy = ", noisy" * bool(row["noisy"])
                print(f"{op} {size} {counted} {row['impl']}: {cost}, {row['peak_bytes'] / 2**20:.2f} MiB{noisy}")
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
