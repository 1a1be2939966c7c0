"""What scaling costs and what its cheaper forms save: bench_scaling.py --out FILE [--device cpu] [--quick].

Beside each comparison an identical copy of the peer is timed as another implementation: its ratio to the peer is what
this machine makes of no difference at all. Whole networks are timed, forward and backward without the optimizer, only
if their loss and first gradient agree with their own in float64.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from sail_core.bench import append_rows, compare
from scalelong import __version__, attach, fold
from scalelong import functional as F
from scalelong.nn import UViT
from torch import Tensor, nn


class Step:
    """Loss and norm of the first gradient of a network, over what they are in float64."""

    def __init__(self, net: nn.Module, device: str, inputs: Sequence[Tensor]) -> None:
        wide = [value.cpu().double() if value.is_floating_point() else value.cpu() for value in inputs]
        self.exact = [value.item() for value in self._run(copy.deepcopy(net).cpu().double(), *wide)]
        self.net = net.to(device)

    def __call__(self, x: Tensor, t: Tensor) -> list[Tensor]:
        """Give both as ratios, 1 where they are right."""
        return [value / exact for value, exact in zip(self._run(self.net, x, t), self.exact, strict=True)]

    @staticmethod
    def _run(net: nn.Module, x: Tensor, t: Tensor) -> list[Tensor]:
        out = net(x, t)
        loss = (getattr(out, "sample", out) - x).square().mean()
        first, *_ = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        return [loss.detach(), first.norm()]


def unets(quick: bool) -> dict[str, nn.Module]:
    """A plain UNet, its copy, and one with attached constants."""
    torch.manual_seed(0)
    plain = diffusers.UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64) if quick else (64, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    scaled = copy.deepcopy(plain)
    attach(scaled, "cs", kappa=0.7)
    return {"scalelong_cs": scaled, "plain": plain, "plain_copy": copy.deepcopy(plain)}


def uvits(quick: bool) -> dict[str, nn.Module]:
    """A plain U-ViT, its copy, those with constants and with gates, and the folded one."""

    def build(scaling: Any = None) -> UViT:
        torch.manual_seed(0)
        return UViT(32, 4 if quick else 2, 3, 128 if quick else 256, 4 if quick else 8, 4, scaling=scaling)

    folded = build("cs")
    fold(folded)
    nets = {"scalelong_ls": build("ls"), "scalelong_cs": build("cs"), "scalelong_folded": folded}
    return nets | {"plain": build(), "plain_copy": build()}


def networks(
    op: str, make: Callable[[bool], dict[str, nn.Module]], device: Any, quick: bool, seconds: float
) -> list[dict[str, Any]]:
    """Time a training step of each network."""
    shape = (2, 3, 32, 32) if quick else (8, 3, 32, 32)

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x, t = torch.randn(shape, generator=generator), torch.randint(1000, shape[:1], generator=generator)
        return [x.to(device), t.to(device)]

    return compare(
        op,
        {name: Step(net, device, inputs(0)) for name, net in make(quick).items()},
        inputs,
        reference=lambda *_: [torch.ones(()), torch.ones(())],
        tolerance=1e-2,
        mode="fwdbwd",
        shape=shape,
        dtype="float32",
        layout="nchw",
        device=device,
        versions={"plain": diffusers.__version__ if op.startswith("unet") else __version__},
        seconds=seconds,
    )


def again(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function as another object."""
    return lambda *args: function(*args)


def operation(
    op: str,
    ours: Callable[..., Tensor],
    peer: Callable[..., Tensor],
    shapes: Sequence[Sequence[int]],
    mode: str,
    device: Any,
    seconds: float,
) -> list[dict[str, Any]]:
    """Time one function against its reference and the reference's copy."""

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        made = [torch.randn(*shape, generator=generator).to(device) for shape in shapes]
        return [one.requires_grad_(mode == "fwdbwd") for one in made]

    def run(function: Callable[..., Tensor]) -> Callable[..., Any]:
        def call(*args: Tensor) -> Any:
            out = function(*args)
            return [out.detach(), *torch.autograd.grad(out, args, out.detach())] if mode == "fwdbwd" else out

        return call

    names = {"scalelong": ours, "reference": peer, "reference_copy": again(peer)}
    return compare(
        op,
        {name: run(function) for name, function in names.items()},
        inputs,
        reference=run(peer),
        tolerance=1e-5,
        mode=mode,
        shape=shapes[0],
        dtype="float32",
        layout="nchw" if len(shapes[0]) == 4 else "blc",
        device=device,
        versions={"scalelong": __version__, "reference": torch.__version__},
        seconds=seconds,
    )


def joins(device: Any, quick: bool, seconds: float) -> list[dict[str, Any]]:
    """The scaled concatenation of maps, and the concatenation-free linear layer of sequences."""

    def concat(h: Tensor, s: Tensor) -> Tensor:
        return F.scaled_concat(h, s, 0.7)

    def scale_then_cat(h: Tensor, s: Tensor) -> Tensor:
        return F.scale_then_cat(h, s, 0.7)

    def linear(x: Tensor, s: Tensor, weight: Tensor) -> Tensor:
        return F.skip_linear(x, s, weight, None, 0.7)

    def linear_of_cat(x: Tensor, s: Tensor, weight: Tensor) -> Tensor:
        return F.skip_linear_cat(x, s, weight, None, 0.7)

    rows = []
    maps = [(4, 64, 64, 64), (4, 128, 32, 32), (4, 256, 16, 16), (4, 256, 8, 8)]
    sequences = [(4, 257, 512), (4, 65, 256)]
    for mode in ("fwd", "fwdbwd"):
        for shape in maps[1:2] if quick else maps:
            op = "scaled_concat" + ("" if shape[-1] >= 32 else "_small")
            rows += operation(op, concat, scale_then_cat, [shape, shape], mode, device, seconds)
        for shape in sequences[1:] if quick else sequences:
            weight = (shape[-1], 2 * shape[-1])
            rows += operation("skip_linear", linear, linear_of_cat, [shape, shape, weight], mode, device, seconds)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if an implementation is wrong."""
    parser = argparse.ArgumentParser(description="Cost of scaling, and what its cheaper forms save.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="small and short, to see that it runs")
    arguments = parser.parse_args(argv)
    device, quick = arguments.device, arguments.quick
    seconds = 0.2 if quick else 15.0
    correct = True
    groups = [
        lambda: joins(device, quick, seconds / 5),
        lambda: networks("unet_step", unets, device, quick, seconds),
        lambda: networks("uvit_step", uvits, device, quick, seconds),
    ]
    for group in groups:
        rows = group()
        append_rows(arguments.out, rows)
        for row in rows:
            correct &= row["correct"]
            ratios = ", ".join(f"{value:.3f} of {name}" for name, value in (row["peer_ratio"] or {}).items())
            cost = f"{row['median_us'] / 1e3:.3f} ms" if row["correct"] else f"wrong by {row['rel_err']}"
            noisy = " noisy" * bool(row["noisy"])
            print(f"{row['op']} {row['mode']} {row['shape']} {row['impl']:16} {cost} {ratios}{noisy}")
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
