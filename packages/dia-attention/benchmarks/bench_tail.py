"""The end of a bottleneck in inference, attention before or after its last convolution: bench_tail.py --out FILE.

A tail is what remains of a block after its second convolution: 1x1 convolution, norm with fixed statistics, DIA's gate,
scale, skip and ReLU. Both forms are those of an attached network, ``Stage.pool_early`` chooses between them; the peer
has torchvision's squeeze-and-excitation in the same place. Every form is compared with the first in float64.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from dia_attention import __version__, attach, register_block_adapter
from sail_core.bench import append_rows, compare
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
VERSIONS = {"early": __version__, "after": __version__, "torchvision_se": torchvision.__version__}
# Ends of ResNet-50's stages at batch 8 and of ResNet-164's at batch 32. In the last of each, where positions are few,
# the convolution dominates.
SHAPES = {
    "resnet50": [(8, 256, 56, 56), (8, 512, 28, 28), (8, 1024, 14, 14), (8, 2048, 7, 7)],
    "resnet164": [(32, 64, 32, 32), (32, 128, 16, 16), (32, 256, 8, 8)],
}


class Tail(nn.Module):
    """A block that is nothing but its tail; the quarter-wide input of the convolution comes with the skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(width // 4, width, 1, bias=False), nn.BatchNorm2d(width)
        for value in (self.bn.running_mean, self.bn.running_var):
            value.uniform_(0.5, 1.5)

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        u, skip = x
        return torch.relu(self.bn(self.conv(u)) + skip)


class Peer(nn.Module):
    """The tail as torchvision's modules compute it."""

    def __init__(self, tail: Tail, gate: nn.Module) -> None:
        super().__init__()
        self.tail, self.gate = tail, gate

    def forward(self, u: Tensor, skip: Tensor) -> Tensor:
        return torch.relu(self.gate(self.tail.bn(self.tail.conv(u))) + skip)


class Attached(nn.Module):
    """A stage of one tail with DIA, in one of its two forms."""

    def __init__(self, tail: Tail, gate: nn.Module, *, early: bool) -> None:
        super().__init__()
        self.tail, self.gate, self.early = tail, gate, early

    def forward(self, u: Tensor, skip: Tensor) -> Tensor:
        raise SystemExit
