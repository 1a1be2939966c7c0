"""torchvision: the blocks of ResNet, ResNeXt and Wide ResNet, also with frozen BatchNorm and inside its detectors."""

from typing import Any

from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck  # type: ignore[import-untyped]

from dia_attention._blocks import Tail, register_block_adapter, relu_tail


def _basic(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tail]:
    z = block.relu(block.bn1(block.conv1(x)))
    z = block.bn2(block.conv2(z))
    return z, x if block.downsample is None else block.downsample(x), relu_tail(block.relu)


def _bottleneck(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tail]:
    z = block.relu(block.bn1(block.conv1(x)))
    z = block.relu(block.bn2(block.conv2(z)))
    z = block.bn3(block.conv3(z))
    return z, x if block.downsample is None else block.downsample(x), relu_tail(block.relu)


register_block_adapter(BasicBlock, _basic)
register_block_adapter(Bottleneck, _bottleneck)
