"""segmentation_models_pytorch: Unet."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from scalelong._sites import SkipSite, unsupported

_REFUSED = {
    "UnetPlusPlus": "its blocks take several skips as one dense concatenation, which have no single depth",
    "MAnet": "its blocks also compute attention from the skip",
    "Linknet": "it adds its skips instead of concatenating them",
}


def find(model: nn.Module) -> Sequence[SkipSite]:
    """The sites of a model, deepest first; a block whose skip is absent or has no channels is not one.

    Raises:
        UnsupportedModelError: It is not a Unet.
    """
    name = type(model).__name__
    if not any(base.__name__ == "Unet" for base in type(model).__mro__):
        raise unsupported(model, _REFUSED.get(name, "of this library only Unet concatenates one skip a block"))
    return _unet(model)


def _unet(model: Any) -> list[SkipSite]:
    width = model.encoder.out_channels[-1]
    sites = []
    for turn, block in enumerate(model.decoder.blocks):
        path, conv = f"decoder.blocks.{turn}", block.conv1[0]
        if conv.in_channels > width:
            plain = isinstance(block.attention1.attention, nn.Identity)
            sites.append(
                SkipSite(
                    module=path,
                    arg="skip_connection",
                    channels=conv.in_channels - width,
                    consumers=(f"{path}.conv1.0",),
                    inputs=(width, conv.in_channels),
                    fold="exact" if plain else "never",
                    reason="" if plain else "an attention stands between the concatenation and the convolution",
                )
            )
        width = block.conv2[0].out_channels
    return sites
