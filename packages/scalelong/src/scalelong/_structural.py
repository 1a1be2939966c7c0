"""Models known by their structure: U-ViT, and the guided-diffusion family, which concatenates in its own forward."""

from collections.abc import Sequence

from torch import nn

from ._groups import group_fold
from ._sites import SkipSite, unsupported


def find(model: nn.Module) -> Sequence[SkipSite]:
    """The sites of a model of unknown class, deepest first.

    Raises:
        UnsupportedModelError: It has neither structure.
    """
    if _blocks(model, "in_blocks") and _blocks(model, "out_blocks"):
        return _uvit(model)
    if _blocks(model, "input_blocks") and _blocks(model, "output_blocks"):
        return _guided(model)
    raise unsupported(
        model, "it is of no known class, and has neither input_blocks and output_blocks nor in_blocks and out_blocks"
    )


def _blocks(model: nn.Module, name: str) -> list[nn.Module]:
    blocks = getattr(model, name, None)
    return list(blocks) if isinstance(blocks, nn.ModuleList) else []


def _uvit(model: nn.Module) -> list[SkipSite]:
    position = getattr(model, "pos_embed", None)
    sites = []
    for turn, block in enumerate(_blocks(model, "out_blocks")):
        layer = getattr(block, "skip_linear", None)
        if layer is None:
            continue
        width = layer.out_features
        path = f"out_blocks.{turn}"
        sites.append(
            SkipSite(
                module=path,
                arg="skip",
                channels=width,
                sequence=True,
                tokens=None if position is None else position.shape[1],
                consumers=(f"{path}.skip_linear",),
                inputs=(layer.in_features - width, layer.in_features),
                fold="exact",
                reason="",
            )
        )
    return sites


def _guided(model: nn.Module) -> list[SkipSite]:
    outputs = _blocks(model, "output_blocks")
    middle = getattr(model, "middle_block", None)
    if middle is None or len(outputs) != len(_blocks(model, "input_blocks")):
        raise unsupported(model, "guided-diffusion has a middle_block and as many output_blocks as input_blocks")
    width = _last_width(model, middle)
    sites = []
    for turn, block in enumerate(outputs):
        first = next(iter(block.children()))
        norm, shortcut = _in_norm(first), getattr(first, "skip_connection", None)
        if norm is None:
            raise unsupported(model, f"output_blocks.{turn} does not begin with a residual block with in_layers")
        path, name = f"output_blocks.{turn}", next(iter(dict(block.named_children())))
        columns = (width, norm.num_channels)
        fold, reason = group_fold(norm, columns, shortcut)
        sites.append(
            SkipSite(
                module=path,
                arg="x",
                columns=columns,
                channels=columns[1] - columns[0],
                consumers=(f"{path}.{name}.skip_connection",),
                inputs=columns,
                fold=fold,
                reason=reason,
            )
        )
        width = _last_width(model, block)
    return sites


def _in_norm(block: nn.Module) -> nn.GroupNorm | None:
    layers = getattr(block, "in_layers", None)
    first = layers[0] if isinstance(layers, nn.Sequential) else None
    return first if isinstance(first, nn.GroupNorm) else None


def _last_width(model: nn.Module, block: nn.Module) -> int:
    """Channels that a block gives: those of its last residual block; attention and upsampling keep them."""
    residual = [one for one in block.modules() if isinstance(getattr(one, "out_layers", None), nn.Sequential)]
    if not residual:
        raise unsupported(model, "a block holds no residual block with out_layers")
    last: nn.Conv2d = residual[-1].out_layers[-1]  # type: ignore[assignment, index]
    return last.out_channels
