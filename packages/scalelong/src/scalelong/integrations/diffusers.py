"""diffusers: its UNets of one, two and three dimensions, HunyuanDiT, StableCascade, Kandinsky3."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from scalelong._groups import group_fold
from scalelong._sites import SkipSite, unsupported

_REFUSED = {
    "UVit2DModel": "it is aMUSEd's network, which has no long skips (Bao's U-ViT is scalelong.nn.UViT)",
    "UNetControlNetXSModel": "its up blocks take two tuples of skips, of the base and of the control",
    "ControlNetModel": "a ControlNet is an encoder; attach to the UNet it serves",
    "UniDiffuserModel": "diffusers has deprecated it",
    "AutoencoderKL": "an autoencoder has no long skips",
}


def find(model: nn.Module) -> Sequence[SkipSite]:
    """The sites of a diffusers model, deepest first.

    Raises:
        UnsupportedModelError: The class is refused or unknown.
    """
    name = type(model).__name__
    for base in type(model).__mro__:
        if base.__name__ in _REFUSED:
            raise unsupported(model, _REFUSED[base.__name__])
    if name == "StableCascadeUNet":
        return _cascade(model)
    if name == "Kandinsky3UNet":
        return _kandinsky(model)
    if isinstance(getattr(model, "up_blocks", None), nn.ModuleList):
        return _unet(model)
    if name == "HunyuanDiT2DModel":
        return _hunyuan(model)
    raise unsupported(model, "scalelong knows no long skips in this diffusers class")


def _unet(model: Any) -> list[SkipSite]:
    one_each = type(model.up_blocks[0]).__name__.startswith("K") or "unet_1d" in type(model.up_blocks[0]).__module__
    sites = []
    width = _width(model)
    for turn, block in enumerate(model.up_blocks):
        path = f"up_blocks.{turn}"
        if one_each:
            sites += _one(path, block)
            continue
        for slot, resnet in enumerate(block.resnets):
            inner = getattr(resnet, "spatial_res_block", resnet)
            name = f"{path}.resnets.{slot}" + (".spatial_res_block" if inner is not resnet else "")
            columns = None if width is None else (width, inner.in_channels)
            fold, reason = group_fold(inner.norm1, columns or (0, 0), inner.conv_shortcut)
            if columns is None:
                fold, reason = "never", "the width of the backbone is not known"
            sites.append(
                SkipSite(
                    module=path,
                    arg="res_hidden_states_tuple",
                    slot=-1 - slot,
                    channels=None if columns is None else columns[1] - columns[0],
                    consumers=(f"{name}.conv_shortcut",),
                    inputs=columns,
                    fold=fold,
                    reason=reason,
                )
            )
            width = inner.out_channels
    return sites[1:] if _k_without_deepest(model) else sites


def _width(model: Any) -> int | None:
    """Channels that enter the first up block."""
    last = model.mid_block if getattr(model, "mid_block", None) is not None else model.down_blocks[-1]
    resnet = last.resnets[-1]
    return getattr(getattr(resnet, "spatial_res_block", resnet), "out_channels", None)


def _k_without_deepest(model: Any) -> bool:
    """A last K block of the encoder that does not downsample hands None on: its bottom has no skip."""
    last = model.down_blocks[-1]
    return type(last).__name__ == "KCrossAttnDownBlock2D" and last.downsamplers is None


def _one(path: str, block: Any) -> list[SkipSite]:
    """A block that takes one skip for all its layers: K blocks, and those of the 1D UNet."""
    first = block.resnets[0] if hasattr(block, "resnets") else None
    common: dict[str, Any] = {"module": path, "arg": "res_hidden_states_tuple", "slot": -1}
    kind = type(first).__name__
    layers = {"ResConvBlock": ("conv_1", "conv_skip"), "ResidualTemporalBlock1D": ("conv_in.conv1d", "residual_conv")}
    if kind not in layers:
        return [SkipSite(**common, reason=f"a norm stands between the concatenation and the weights of {kind}")]
    convs = [name for name in layers[kind] if isinstance(_get(first, name), nn.Conv1d)]
    if len(convs) < 2:
        return [SkipSite(**common, reason="the block adds its own input to its output without weights")]
    width = _get(first, convs[0]).in_channels
    return [
        SkipSite(
            **common,
            channels=width // 2,
            consumers=tuple(f"{path}.resnets.0.{name}" for name in convs),
            inputs=(width // 2, width),
            fold="exact",
            reason="",
        )
    ]


def _get(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part, None)
    return module


def _hunyuan(model: Any) -> list[SkipSite]:
    return [
        SkipSite(
            module=f"blocks.{turn}",
            arg="skip",
            channels=block.skip_linear.out_features,
            sequence=True,
            consumers=(f"blocks.{turn}.skip_linear",),
            reason="a LayerNorm over the concatenation stands before skip_linear",
        )
        for turn, block in enumerate(model.blocks)
        if block.skip_linear is not None
    ]


def _cascade(model: Any) -> list[SkipSite]:
    sites = []
    for level, blocks in enumerate(model.up_blocks):
        if level == 0:
            continue
        path = f"up_blocks.{level}.0"
        layer = blocks[0].channelwise[0]
        width = blocks[0].depthwise.out_channels
        sites.append(
            SkipSite(
                module=path,
                arg="x_skip",
                channels=layer.in_features - width,
                consumers=(f"{path}.channelwise.0",),
                inputs=(width, layer.in_features),
                fold="exact",
                reason="",
            )
        )
    return sites


def _kandinsky(model: Any) -> list[SkipSite]:
    widths = list(model.config.block_out_channels)
    sites = []
    for level, block in enumerate(model.up_blocks):
        if level == 0:
            continue
        skip = widths[len(widths) - 1 - level]
        total = block.resnets_in[0].resnet_blocks[0].group_norm.norm.num_channels
        sites.append(
            SkipSite(
                module=f"up_blocks.{level}",
                arg="x",
                columns=(total - skip, total),
                channels=skip,
                reason="a conditional GroupNorm stands between the concatenation and the weights",
            )
        )
    return sites
