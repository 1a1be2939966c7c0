"""Inference of ResNet-164 with attention that folds: bench_fold.py --out FILE [--device cpu] [--quick].

Operation ``folded_asr``: ours is ASR over SE, folded; it has the operators of the plain network, which is the peer, and
so the ratio measures the clock. Operation ``folded_ras``: ours is RAS, folded to an affine gate; ``unfolded`` is RAS
before, in evaluation mode; the peers are our SE and torchvision's and timm's. Every network is compared with itself in
float64.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import timm
import torch
import torchvision
from dia_attention import __version__, attach, cifar_resnet, fold
from sail_core.bench import append_rows, compare
from timm.layers import SqueezeExcite
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
VERSIONS = {
    "dia_attention": __version__,
    "unfolded": __version__,
    "se": __version__,
    "plain": __version__,
    "torchvision_se": torchvision.__version__,
    "timm_se": timm.__version__,
}


def networks(depth: int) -> dict[str, dict[str, nn.Module]]:
    """For each operation the networks, all with the same convolutions and with statistics that have moved."""

    def build(attention: str | None = None) -> nn.Module:
        torch.manual_seed(0)
        net = cifar_resnet(depth)
        if attention is not None:
            attach(net, attention)
        with torch.no_grad():
            net(torch.randn(4, 3, 32, 32))
        return net.eval()

    def behind_every_norm(make: Callable[[int], nn.Module]) -> nn.Module:
        net = build()
        for block in [module for module in net.modules() if hasattr(module, "bn3")]:
            block.bn3 = nn.Sequential(block.bn3, make(block.bn3.num_features))
        return net.eval()

    return {
        "folded_asr": {"dia_attention": fold(build("asr")), "plain": build(), "unfolded": build("asr")},
        "folded_ras": {
            "dia_attention": fold(build("ras")),
            "unfolded": build("ras"),
            "se": build("se"),
            "torchvision_se": behind_every_norm(lambda width: SqueezeExcitation(width, width // 16)),
            "timm_se": behind_every_norm(lambda width: SqueezeExcite(width, rd_ratio=1 / 16, rd_divisor=1)),
        },
    }


class Relative:
    """The logits of a network over what they are in float64."""

    def __init__(self, net: nn.Module, images: Tensor, layout: torch.memory_format, device: str) -> None:
        self.exact = copy.deepcopy(net).double()(images.double()).to(device)
        self.net = net.to(device=device, memory_format=layout)
        self.scale = self.exact.abs().max()

    def __call__(self, images: Tensor) -> Tensor:
        """Give logits that are 1 where they are right, to one part in the largest."""
        return 1 + (self.net(images) - self.exact) / self.scale


def main(argv: Sequence[str] | None = None) -> int:
    """Append one row for each network and layout; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="Inference of ResNet-164 with folded attention.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="ResNet-29, batch 4, to see that it runs")
    arguments = parser.parse_args(argv)
    device = arguments.device
    depth, batch, seconds = (29, 4, 0.3) if arguments.quick else (164, 32 if device == "cpu" else 128, 8.0)
    correct = True
    for layout, form in LAYOUTS.items():
        for op, nets in networks(depth).items():

            def inputs(seed: int, form: torch.memory_format = form) -> list[Tensor]:
                images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))  # those of the truth
                return [images.to(device).contiguous(memory_format=form)]

            with torch.inference_mode():
                images = inputs(0)[0].cpu()
                rows = compare(
                    op,
                    {name: Relative(net, images, form, device) for name, net in nets.items()},
                    inputs,
                    reference=lambda images: torch.ones(len(images), 10, device=device),
                    tolerance=1e-4,
                    mode="fwd",
                    shape=(batch, 3, 32, 32),
                    dtype="float32",
                    layout=layout,
                    device=device,
                    versions=VERSIONS,
                    seconds=seconds,
                )
            append_rows(arguments.out, rows)
            correct &= all(row["correct"] for row in rows)
            ratios = {peer: round(ratio, 3) for peer, ratio in (rows[0]["peer_ratio"] or {}).items()}
            print(f"{op} {layout}: {ratios}{' noisy' * bool(rows[0]['noisy'])}")
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
