"""Forward and backward of SE-ResNet-50 at 224 x 224: bench_resnet50.py --out FILE [--device cpu|cuda] [--quick].

Ours is timm's ResNet-50 with SE attached, reduction 16; the peer is timm's `seresnet50`, the same computation, eager
and, on CUDA, compiled. The optimizer is not timed. A network is timed only if its loss and the gradient at its first
convolution agree with its own in float64.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from dia_attention import __version__, attach
from dia_attention._bench import Step
from sail_core.bench import append_rows, compare
from torch import Tensor, nn

LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def networks() -> dict[str, nn.Module]:
    """The three networks, from one seed each, so that they have equal weights where they have the same layers."""

    def build(name: str) -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=10, zero_init_last=False)

    ours = build("resnet50")
    attach(ours, "se", reduction=16)
    return {"dia_attention": ours, "timm": build("seresnet50"), "plain": build("resnet50")}


def compiled(step: Step) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """The same step with its network compiled."""
    other = copy.copy(step)
    other.net = torch.compile(step.net)  # type: ignore[assignment]
    return other


def main(argv: Sequence[str] | None = None) -> int:
    """Append one row for each network and layout; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="A training step of SE-ResNet-50 beside timm's and the plain net.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="batch 2 at 64 x 64, to see that it runs")
    arguments = parser.parse_args(argv)
    device, (batch, size) = (
        arguments.device,
        (2, 64) if arguments.quick else (8 if arguments.device == "cpu" else 64, 224),
    )
    if device == "cpu":
        torch.set_num_threads(1)
    correct = True
    for layout, memory_format in LAYOUTS.items():

        def inputs(seed: int, memory_format: torch.memory_format = memory_format) -> list[Tensor]:
            generator = torch.Generator().manual_seed(seed)
            images = torch.randn(batch, 3, size, size, generator=generator)
            labels = torch.randint(10, (batch,), generator=generator)
            return [images.to(device).contiguous(memory_format=memory_format), labels.to(device)]

        images, labels = (value.cpu() for value in inputs(0))
        steps: dict[str, Any] = {name: Step(net, layout, device, images, labels) for name, net in networks().items()}
        if device == "cuda":
            steps["compiled"] = compiled(steps["timm"])
        rows = compare(
            "se_resnet50",
            steps,
            inputs,
            reference=lambda *_: [torch.ones(()), torch.ones(())],
            tolerance=5e-2,
            mode="fwdbwd",
            shape=(batch, 3, size, size),
            dtype="float32",
            layout=layout,
            device=device,
            versions={"dia_attention": __version__, "timm": timm.__version__, "compiled": torch.__version__},
            seconds=0.5 if arguments.quick else 15.0,
        )
        append_rows(arguments.out, rows)
        for row in rows:
            time = f"{row['median_us'] / 1e3:.0f} ms" if row["correct"] else f"wrong by {row['rel_err']}"
            print(f"se_resnet50 {layout} {row['impl']:14} {time}{', noisy' * bool(row['noisy'])} {row['peer_ratio']}")
        correct &= all(row["correct"] for row in rows)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
