"""End of a bottleneck block in inference: bench_tail.py --out FILE [--device cpu] [--quick].

From the input u of the last 1x1 convolution to the block's output: relu(gate ⊙ norm(conv(u)) + skip), with squeeze and
excitation of reduction 16. Ours computes the gate before the convolution, from the mean of u; `after` is ours with the
gate after the norm, the form of training, and the peers put their module behind the norm.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
import torchvision
from dia_attention import __version__, attach, register_block_adapter
from sail_core.bench import append_rows, compare
from timm.layers import SqueezeExcite
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

SHAPES = ((8, 256, 56, 56), (8, 512, 28, 28), (8, 1024, 14, 14), (8, 2048, 7, 7))
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


class Tail(nn.Module):
    """The last convolution and norm of a bottleneck, and a skip that stays the same."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.conv3, self.bn3 = nn.Conv2d(shape[1] // 4, shape[1], 1, bias=False), nn.BatchNorm2d(shape[1])
        self.register_buffer("skip", torch.randn(shape))
        self.bn3.running_mean.normal_()
        self.bn3.running_var.uniform_(0.5, 2)

    def forward(self, u: Tensor) -> Tensor:
        """Map u to relu(norm(conv(u)) + skip)."""
        return torch.relu(self.bn3(self.conv3(u)) + self.skip)


register_block_adapter(Tail, lambda block, u: (u, block.skip, "relu"), last=("conv3", "bn3"))


def networks(shape: Sequence[int]) -> dict[str, nn.Module]:
    """The four forms, with the same weights."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Sequential(Tail(shape)))
    attach(ours, "se")
    gate = ours[0].se["0"]
    width = shape[1]
    late = copy.deepcopy(ours)
    late[0].pool_early = False
    nets: dict[str, nn.Module] = {"dia_attention": ours, "after": late}
    for name, module, layers in (
        ("torchvision_se", SqueezeExcitation(width, width // 16), ("fc1", "fc2")),
        ("timm_se", SqueezeExcite(width, rd_ratio=1 / 16, rd_divisor=1), ("fc1", "fc2")),
    ):
        for layer, source in zip(layers, (gate.fc1, gate.fc2), strict=True):
            getattr(module, layer).weight.data.copy_(source.weight.data[:, :, None, None])
            getattr(module, layer).bias.data.copy_(source.bias.data)
        tail = copy.deepcopy(ours[0][0])
        tail.bn3 = nn.Sequential(tail.bn3, module)
        nets[name] = tail
    return {name: net.eval() for name, net in nets.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Append one row for each form, shape and layout; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="The end of a bottleneck block in inference.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="one small shape, to see that it runs")
    arguments = parser.parse_args(argv)
    correct = True
    for shape in ((2, 64, 8, 8),) if arguments.quick else SHAPES:
        for layout, form in LAYOUTS.items():
            nets = {name: net.to(device=arguments.device, memory_format=form) for name, net in networks(shape).items()}
            exact = copy.deepcopy(nets["after"]).double()

            def inputs(seed: int, shape: Sequence[int] = shape, form: torch.memory_format = form) -> list[Tensor]:
                generator = torch.Generator().manual_seed(seed)
                u = torch.randn(shape[0], shape[1] // 4, *shape[2:], generator=generator)
                return [u.to(arguments.device).contiguous(memory_format=form)]

            with torch.no_grad():
                rows = compare(
                    "se_tail",
                    nets,
                    inputs,
                    reference=lambda u, exact=exact: exact(u.double()),
                    tolerance=1e-5,
                    mode="fwd",
                    shape=shape,
                    dtype="float32",
                    layout=layout,
                    device=arguments.device,
                    versions={
                        "dia_attention": __version__,
                        "after": __version__,
                        "torchvision_se": torchvision.__version__,
                        "timm_se": timm.__version__,
                    },
                    seconds=0.1 if arguments.quick else 1.5,
                )
            append_rows(arguments.out, rows)
            correct &= all(row["correct"] for row in rows)
            ratios = {peer: round(ratio, 3) for peer, ratio in (rows[0]["peer_ratio"] or {}).items()}
            print(f"{'x'.join(map(str, shape))} {layout}: {ratios}{' noisy' * bool(rows[0]['noisy'])}")
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
