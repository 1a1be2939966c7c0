"""timm: adapters for its blocks, and models for its registry.

Importing this registers ``diaresnet50``, ``lsasresnet50`` and ``asrresnet50``. The blocks are those of ResNet (ResNeXt,
Wide ResNet, variants) and ResNetV2, and for ASR alone those of ViT, ConvNeXt and RepVGG.

DropBlock, anti-aliasing and stochastic depth keep their places; stochastic depth drops the gated branch, as it does
with timm's own attention. ``set_grad_checkpointing`` works block by block, with the non-reentrant checkpoints that are
timm's default; the reentrant kind is refused where a state goes from block to block.

ASR goes into the last layer of each branch: of a ViT block into its LayerScale, or without one into the projections; of
a ConvNeXt block into its second linear layer; of a RepVGG block into the norm of its 3x3 branch.
"""

from typing import Any

from timm.models import register_model
from timm.models.byobnet import RepVggBlock
from timm.models.convnext import ConvNeXtBlock
from timm.models.resnet import BasicBlock, Bottleneck, resnet50
from timm.models.resnetv2 import Bottleneck as PostNormBottleneck
from timm.models.resnetv2 import PreActBasic, PreActBottleneck
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from dia_attention._attach import attach
from dia_attention._blocks import Parts, Tail, last_convolution_width, register_block_adapter, relu_tail


def _basic(block: Any, x: Tensor) -> Parts:
    z = block.aa(block.act1(block.drop_block(block.bn1(block.conv1(x)))))
    return z, _shortcut(block, x), _tail(block, block.act2)


def _bottleneck(block: Any, x: Tensor) -> Parts:
    z = block.act1(block.bn1(block.conv1(x)))
    z = block.aa(block.act2(block.drop_block(block.bn2(block.conv2(z)))))
    return z, _shortcut(block, x), _tail(block, block.act3)


def _preact_basic(block: Any, x: Tensor) -> Parts:
    before = block.norm1(x)
    z = block.norm2(block.conv1(before))
    return z, x if block.downsample is None else block.downsample(before), _tail(block, None)


def _preact_bottleneck(block: Any, x: Tensor) -> Parts:
    before = block.norm1(x)
    z = block.norm3(block.conv2(block.norm2(block.conv1(before))))
    return z, x if block.downsample is None else block.downsample(before), _tail(block, None)


def _postnorm_bottleneck(block: Any, x: Tensor) -> Parts:
    z = block.norm2(block.conv2(block.norm1(block.conv1(x))))
    return z, _shortcut(block, x), _tail(block, block.act3)


def _shortcut(block: Any, x: Tensor) -> Tensor:
    shortcut: Tensor = x if block.downsample is None else block.downsample(x)
    return shortcut


def _tail(block: Any, activation: nn.Module | None) -> Tail:
    drop = block.drop_path
    if drop is None or isinstance(drop, nn.Identity) or not block.training:
        return None if activation is None else relu_tail(activation)
    if activation is None:
        return lambda branch, skip: drop(branch) + skip
    return lambda branch, skip: activation(drop(branch) + skip)


def _channels(block: Any) -> int:
    if block.se is not None:
        raise ValueError(
            f"its {type(block).__name__} has an attention already ({type(block.se).__name__} in `se`); "
            "create the model without one"
        )
    return last_convolution_width(block)


def _vit_layers(block: Any) -> tuple[str, ...]:
    pairs = (("ls1", "attn.proj"), ("ls2", "mlp.fc2"))
    return tuple(projection if isinstance(getattr(block, scale), nn.Identity) else scale for scale, projection in pairs)


register_block_adapter(BasicBlock, _basic, last=("conv2", "bn2"), channels=_channels)
register_block_adapter(Bottleneck, _bottleneck, last=("conv3", "bn3"), channels=_channels)
register_block_adapter(PreActBasic, _preact_basic, last=("conv2",))
register_block_adapter(PreActBottleneck, _preact_bottleneck, last=("conv3",))
register_block_adapter(PostNormBottleneck, _postnorm_bottleneck, last=("conv3", "norm3"))
register_block_adapter(Block, None, layers=_vit_layers)
register_block_adapter(ConvNeXtBlock, None, layers=lambda block: ("mlp.fc2",))
register_block_adapter(RepVggBlock, None, layers=lambda block: ("conv_kxk.bn",))


def _with_attention(name: str, *, pretrained: bool, model: dict[str, Any], **options: Any) -> nn.Module:
    net: nn.Module = resnet50(pretrained=pretrained, **model)
    attach(net, name, init="identity" if pretrained else "paper", **options)
    return net


@register_model
def diaresnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-50 with DIA in every stage, r = 20; on pretrained weights of ResNet-50 it starts as identity."""
    return _with_attention("dia", pretrained=pretrained, model=kwargs, reduction=20)


@register_model
def lsasresnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-50 with LSAS over SE in its last two stages; on pretrained weights it starts as identity."""
    return _with_attention("lsas", pretrained=pretrained, model=kwargs)


@register_model
def asrresnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-50 with ASR over SE, which ``reparameterize_model`` folds; on pretrained weights it starts as identity."""
    return _with_attention("asr", pretrained=pretrained, model=kwargs)
