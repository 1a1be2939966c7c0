"""MONAI: the blocks of its ResNet in two and three dimensions."""

from typing import Any

from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import Tensor

from dia_attention._blocks import Parts, register_block_adapter, relu_tail


def _basic(block: Any, x: Tensor) -> Parts:
    z = block.act(block.bn1(block.conv1(x)))
    return z, x if block.downsample is None else block.downsample(x), relu_tail(block.act)


def _bottleneck(block: Any, x: Tensor) -> Parts:
    z = block.act(block.bn1(block.conv1(x)))
    z = block.act(block.bn2(block.conv2(z)))
    return z, x if block.downsample is None else block.downsample(x), relu_tail(block.act)


register_block_adapter(ResNetBlock, _basic, last=("conv2", "bn2"))
register_block_adapter(ResNetBottleneck, _bottleneck, last=("conv3", "bn3"))
