"""torchvision: the blocks of ResNet, ResNeXt and Wide ResNet, also with frozen BatchNorm and inside its detectors."""

from typing import Any

from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck  # type: ignore[import-untyped]

from dia_attention._blocks import Parts, register_block_adapter, relu_tail


def _basic(block: Any, x: Tensor) -> Parts:
    z = block.relu(block.bn1(block.conv1(x)))
    return z, x if block.downsample is None else block.downsample(x), relu_tail(block.relu)


def _bottleneck(block: Any, x: Tensor) -> Parts:
    z = block.relu(block.bn1(block.conv1(x)))
    z = block.relu(block.bn2(block.conv2(z)))
    return z, x if block.downsample is None else block.downsample(x), relu_tail(block.relu)


register_block_adapter(BasicBlock, _basic, last=("conv2", "bn2"))
register_block_adapter(Bottleneck, _bottleneck, last=("conv3", "bn3"))
