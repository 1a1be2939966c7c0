"""Our gates in the form in which timm takes attention: something that is called with the number of channels."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import torch
from sail_core.ops import recalibrate
from torch import Tensor, nn

from ._attach import ATTENTIONS, fill_options
from ._gate import ChannelGate, refusal_of

_STATELESS = ("cbam", "eca", "lsas", "ras", "se")


class TimmAttention(nn.Module):
    """A gate in a block of timm: y = x ⊙ gate(mean of x).

    Args:
        channels: Width of the features.
        name: ``"se"``, ``"eca"``, ``"cbam"``, ``"ras"`` or ``"lsas"``.
        rd_ratio: Hidden width divided by ``channels``; None is the gate's own.
        rd_channels: The hidden width itself, in place of ``rd_ratio``.
        options: Of the gate.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        channels: int,
        *,
        name: str,
        rd_ratio: float | None = None,
        rd_channels: int | None = None,
        options: dict[str, Any],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if rd_channels is not None:
            options = options | {"reduction": channels / rd_channels}
        elif rd_ratio is not None:
            options = options | {"reduction": 1 / rd_ratio}
        build: Any = ATTENTIONS[name]
        self.gate: nn.Module = build(channels, device=device, dtype=dtype, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, C, H, W)`` to features of the same shape."""
        if refusal := refusal_of(self.gate, x):
            raise ValueError(f"{type(self.gate).__name__} {refusal}")
        if not isinstance(self.gate, ChannelGate):
            attended: Tensor = self.gate(x)
            return attended
        y = recalibrate(x, self.gate)
        assert isinstance(y, Tensor), "the gate is stateless"
        return y


def timm_layer(
    name: str, *, rd_ratio: float | None = None, rd_channels: int | None = None, init: str | None = None, **options: Any
) -> Callable[..., TimmAttention]:
    """Return what timm's ``attn_layer`` takes: called with the channels, it builds the attention.

    Args:
        name: ``"se"``, ``"eca"``, ``"cbam"``, ``"ras"`` or ``"lsas"``. DIA and StepNet carry a state from block to
            block and ASR goes into norms: those are for ``attach``.
        rd_ratio: Hidden width divided by the width, as in timm. Default: the attention's own.
        rd_channels: The hidden width itself, in place of ``rd_ratio``.
        init: As for ``attach``.
        options: Of the attention, such as ``order`` of LSAS.

    Returns:
        A callable ``layer(channels, device=None, dtype=None)`` that can be pickled.

    Raises:
        ValueError: The name is not one of these.
        TypeError: The attention has no such option, or a module is given in place of a name.

    Example:
        >>> layer = timm_layer("lsas", order=2, rd_ratio=1 / 16)
        >>> sum(parameter.numel() for parameter in layer(64).parameters())
        836

    With timm: ``timm.create_model("resnet50", block_args={"attn_layer": timm_layer("lsas", order=2)})``.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"timm_layer takes a name such as 'se', got a {type(name).__name__}; a class of yours goes into "
            "attn_layer as it is, and a module does not: timm calls it for every width"
        )
    if name not in _STATELESS:
        raise ValueError(f"timm_layer has {sorted(_STATELESS)}, not {name!r}; the others need attach(model, name)")
    if rd_ratio is not None and not 0 < rd_ratio <= 1:
        raise ValueError(f"rd_ratio={rd_ratio} must lie in (0, 1]")
    if rd_channels is not None and rd_channels < 1:
        raise ValueError(f"rd_channels={rd_channels} must be at least 1")
    filled = fill_options(name, options)
    reduced = "reduction" in signature(ATTENTIONS[name]).parameters
    if not reduced and (rd_ratio is not None or rd_channels is not None):
        raise TypeError(f"{name!r} has no hidden layer: leave rd_ratio and rd_channels out")
    if init is not None:
        filled["init"] = init
    return partial(TimmAttention, name=name, rd_ratio=rd_ratio, rd_channels=rd_channels, options=filled)
