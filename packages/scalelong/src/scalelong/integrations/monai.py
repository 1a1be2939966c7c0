"""MONAI: DiffusionModelUNet, UNet, BasicUNet, DynUNet."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from scalelong._groups import group_fold
from scalelong._sites import SkipSite, unsupported

_REFUSED = {
    "AttentionUnet": "its skips pass an attention gate",
    "SegResNet": "it adds its skips instead of concatenating them",
    "BasicUNetPlusPlus": "its blocks take several skips as one dense concatenation, which have no single depth",
}


def find(model: nn.Module) -> Sequence[SkipSite]:
    """The sites of a MONAI network, deepest first.

    Raises:
        UnsupportedModelError: The class is refused or unknown.
    """
    finders = {"DiffusionModelUNet": _diffusion, "UNet": _unet, "BasicUNet": _basic, "DynUNet": _dynamic}
    for base in type(model).__mro__:
        if base.__name__ in finders:
            return finders[base.__name__](model)
    known = "of this library DiffusionModelUNet, UNet, BasicUNet and DynUNet are known"
    raise unsupported(model, _REFUSED.get(type(model).__name__, known))


def _diffusion(model: Any) -> list[SkipSite]:
    sites = []
    width = model.middle_block.resnet_2.out_channels
    for turn, block in enumerate(model.up_blocks):
        path = f"up_blocks.{turn}"
        for slot, resnet in enumerate(block.resnets):
            columns = (width, resnet.channels)
            fold, reason = group_fold(resnet.norm1, columns, resnet.skip_connection)
            sites.append(
                SkipSite(
                    module=path,
                    arg="res_hidden_states_list",
                    slot=-1 - slot,
                    channels=columns[1] - columns[0],
                    consumers=(f"{path}.resnets.{slot}.skip_connection.conv",),
                    inputs=columns,
                    fold=fold,
                    reason=reason,
                )
            )
            width = resnet.out_channels
    return sites


def _basic(model: Any) -> list[SkipSite]:
    sites = []
    for depth in (4, 3, 2, 1):
        path = f"upcat_{depth}"
        block = getattr(model, path)
        conv = block.convs.conv_0.conv
        up = [one for one in block.upsample.modules() if hasattr(one, "out_channels")]
        skip = conv.in_channels - up[-1].out_channels if up else None
        sites.append(
            SkipSite(
                module=path,
                arg="x_e",
                channels=skip,
                consumers=(f"{path}.convs.conv_0.conv",),
                inputs=None if skip is None else (0, skip),
                fold="exact" if skip is not None else "never",
                reason="" if skip is not None else "an upsampling without weights hides the width of the skip",
            )
        )
    return sites


def _dynamic(model: Any) -> list[SkipSite]:
    sites = []
    for turn, block in enumerate(model.upsamples):
        conv = block.conv_block.conv1.conv
        plain = not hasattr(block.conv_block, "conv3")
        sites.append(
            SkipSite(
                module=f"upsamples.{turn}",
                arg="skip",
                channels=conv.in_channels // 2,
                consumers=(f"upsamples.{turn}.conv_block.conv1.conv",),
                inputs=(conv.in_channels // 2, conv.in_channels),
                fold="exact" if plain else "never",
                reason="" if plain else "the block adds its own input to its output",
            )
        )
    return sites


def _unet(model: Any) -> list[SkipSite]:
    """The skip is also the input of all deeper levels, so it is taken where it leaves them, in ``up``."""
    sites = [_level(path, parts) for path, parts in _levels(model, "model")]
    return sites[::-1]


def _levels(model: Any, path: str) -> Iterator[tuple[str, list[Any]]]:
    """Each (down, skip connection, up), the shallowest first."""
    here = model.get_submodule(path)
    parts = list(here)
    yield path, parts
    inner = f"{path}.1.submodule"
    below = model.get_submodule(inner)
    if isinstance(below, nn.Sequential) and len(below) == 3 and type(below[1]).__name__ == "SkipConnection":
        yield from _levels(model, inner)


def _level(path: str, parts: list[Any]) -> SkipSite:
    down, _, up = parts
    first = up[0] if type(up) is nn.Sequential else up
    name = f"{path}.2.0.conv" if first is not up else f"{path}.2.conv"
    width = down.out_channels
    return SkipSite(
        module=f"{path}.2",
        arg="input",
        columns=(0, width),
        channels=width,
        consumers=(name,),
        inputs=(0, width),
        fold="exact",
        reason="",
    )
