"""timm: the blocks of ``timm.models.resnet`` (ResNet, ResNeXt, Wide ResNet and their stem and downsampling variants).

DropBlock, anti-aliasing and stochastic depth keep their places; stochastic depth drops the gated branch, as it does
with timm's own attention. ``set_grad_checkpointing`` works block by block, with the non-reentrant checkpoints that are
timm's default; the reentrant kind is refused.
"""

from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from dia_attention._blocks import Tail, last_convolution_width, register_block_adapter, relu_tail


def _basic(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tail]:
    z = block.aa(block.act1(block.drop_block(block.bn1(block.conv1(x)))))
    z = block.bn2(block.conv2(z))
    return z, _shortcut(block, x), _tail(block, block.act2)


def _bottleneck(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tail]:
    z = block.act1(block.bn1(block.conv1(x)))
    z = block.aa(block.act2(block.drop_block(block.bn2(block.conv2(z)))))
    z = block.bn3(block.conv3(z))
    return z, _shortcut(block, x), _tail(block, block.act3)


def _shortcut(block: Any, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(x)


def _tail(block: Any, activation: nn.Module) -> Tail:
    drop = block.drop_path
    if drop is None or not block.training:
        return relu_tail(activation)
    return lambda branch, skip: activation(drop(branch) + skip)


def _channels(block: Any) -> int:
    if block.se is not None:
        raise ValueError(
            f"its {type(block).__name__} has an attention already ({type(block.se).__name__} in `se`); "
            "create the model without one"
        )
    return last_convolution_width(block)


register_block_adapter(BasicBlock, _basic, channels=_channels)
register_block_adapter(Bottleneck, _bottleneck, channels=_channels)
