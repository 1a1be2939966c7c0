"""Time and memory of recalibration against size: bench_growth.py --out FILE [--device cpu] [--quick].

Squeeze-and-excitation with residual and ReLU, forward and backward, beside timm's in eager mode. Operation
``growth_map`` counts the pixels of a map, ``growth_batch`` the images. A row's shape is that count alone, `nbytes` is
of one map, and `peak_bytes` is what a warm call holds beyond its inputs. The smallest sizes lie below the threshold
under which the plain form runs.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from sail_core import __version__
from sail_core.bench import append_rows, compare, peak_bytes
from sail_core.ops import recalibrate
from timm.layers import SqueezeExcite
from torch import Tensor, nn

# By operation: what is counted, and the shape of the maps for each count.
SERIES: dict[str, tuple[str, dict[int, tuple[int, ...]]]] = {
    "growth_map": ("pixels", {side**2: (4, 64, side, side) for side in (8, 16, 32, 64, 128, 256)}),
    "growth_batch": ("images", {2**i: (2**i, 256, 14, 14) for i in range(9)}),
}


def gate_of(se: Any) -> nn.Sequential:
    """The gate of timm's module for pooled maps ``(N, C)``, with the same weights."""
    layers = []
    for conv in (se.fc1, se.fc2):
        layers.append(nn.Linear(conv.in_channels, conv.out_channels))
        layers[-1].weight.data.copy_(conv.weight.data.flatten(1))
        layers[-1].bias.data.copy_(conv.bias.data)
    return nn.Sequential(layers[0], nn.ReLU(inplace=True), layers[1], nn.Sigmoid())


def step(block: Callable[[Tensor, Tensor], Tensor], parameters: Sequence[Tensor], *inputs: Tensor) -> list[Tensor]:
    """Forward and backward of a block; the gradients of the parameters are computed but not returned."""
    x, residual, g = inputs
    y = block(x, residual)
    to_x, to_residual, *_ = torch.autograd.grad(y, [x, residual, *parameters], g)
    return [y.detach(), to_x, to_residual]


def measure(op: str, size: int, shape: Sequence[int], device: Any, seconds: float) -> list[dict[str, Any]]:
    """The two rows of one size."""
    torch.manual_seed(0)
    se = SqueezeExcite(shape[1])
    gate = gate_of(se).to(device)
    se.to(device)
    exact = copy.deepcopy(se).double()

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        made = [torch.randn(*shape, generator=generator).to(device) for _ in range(3)]
        return [made[0].requires_grad_(), made[1].requires_grad_(), made[2]]

    def truth(*values: Tensor) -> list[Tensor]:
        wide = [value.detach().double().requires_grad_(value.requires_grad) for value in values]
        return step(lambda x, residual: torch.relu(exact(x) + residual), list(exact.parameters()), *wide)

    def ours(x: Tensor, residual: Tensor) -> Tensor:
        return recalibrate(x, gate, residual=residual, activation="relu")

    def timms(x: Tensor, residual: Tensor) -> Tensor:
        return torch.relu(se(x) + residual)

    steps = {
        "sail_core": partial(step, ours, list(gate.parameters())),
        "timm": partial(step, timms, list(se.parameters())),
    }
    rows = compare(
        op,
        steps,
        inputs,
        reference=truth,
        tolerance=1e-5,
        mode="fwdbwd",
        shape=[size],
        dtype="float32",
        layout=SERIES[op][0],
        device=device,
        versions={"sail_core": __version__, "timm": timm.__version__},
        seconds=seconds,
    )
    given = inputs(0)
    for row in rows:
        row["nbytes"] = given[0].nbytes
        row["peak_bytes"] = peak_bytes(partial(steps[row["impl"]], *given), device)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append two rows for each size; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="Time and memory of recalibration against size.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="the three smallest sizes, to see that it runs")
    arguments = parser.parse_args(argv)
    correct = True
    for op, (counted, shapes) in SERIES.items():
        for size, shape in list(shapes.items())[: 3 if arguments.quick else None]:
            rows = measure(op, size, shape, arguments.device, 0.02 if arguments.quick else 0.3)
            append_rows(arguments.out, rows)
            for row in rows:
                correct &= row["correct"]
                cost = f"{row['median_us'] / 1e3:.3f} ms" if row["correct"] else f"wrong by {row['rel_err']}"
                noisy = ", noisy" * bool(row["noisy"])
                print(f"{op} {size} {counted} {row['impl']}: {cost}, {row['peak_bytes'] / 2**20:.3f} MiB{noisy}")
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
