"""ASR: attention that reads a learned vector instead of the features, and so folds into the layer before it.

    v = Π_j attention_j(ψ_j)                              (C,), ψ_j learned, 0.1 at the start
    norm with γ, β  becomes  norm with v ⊙ γ, v ⊙ β       in training and, once for all, in deployment

Training passes the scaled affine to the norm, so that no activation is read or written for the attention; ``fold``
multiplies it in and leaves the plain network, with its keys and its operators. The affine may be that of a batch, layer
or group norm, frozen or not, the γ of a LayerScale, or weight and bias of a linear or convolution layer.

Differences from the paper:
    - The authors' training code multiplies the features, and keeps a second norm for deployment.
    - ``stack`` attentions in one place are multiplied (their ablation of the number of insertions).
    - Channel attention only, as in the paper; an attention with BatchNorm inside cannot see a single vector and is
      refused.

References:
    - Huang, Zhong, Wen, Qin, Lin: Stripe Observation Guided Inference Cost-free Attention Mechanism. ECCV 2024,
      arXiv 2304.06345.
"""

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ._base import Base, build_base
from ._config import AttachConfig
from .functional import asr_attention


class ASR(nn.Module):
    """The input-free attention of one layer.

    v = Π_j attention_j(ψ_j)

    Args:
        channels: Width C of the layer.
        base: ``"se"``, ``"eca"``, or a class that is called with the width and whose modules map
            ``(1, C)`` to a gate ``(1, C)``.
        stack: Number of attentions that are multiplied, each with its own ψ.
        psi: Start of ψ.
        reduction: Of the base, None for the base's own.
        init: ``"paper"``: that of the base. ``"identity"``: every v is exactly one at the start.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: An argument is out of range, or the attention has BatchNorm inside.

    Example:
        >>> attention = ASR(64)
        >>> sum(parameter.numel() for parameter in attention.parameters())  # SE: 580
        644
        >>> attention().shape
        torch.Size([64])
    """

    config: AttachConfig

    def __init__(
        self,
        channels: int,
        *,
        base: Base = "se",
        stack: int = 1,
        psi: float = 0.1,
        reduction: float | None = None,
        init: str = "paper",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if stack < 1:
            raise ValueError(f"stack={stack} must be at least 1")
        if init not in ("paper", "identity"):
            raise ValueError(f"init={init!r} must be 'paper' or 'identity'")
        self.channels, self.stack, self.start = channels, stack, psi
        self.attention = nn.ModuleList(
            build_base(base, channels, reduction=reduction, init=init, device=device, dtype=dtype) for _ in range(stack)
        )
        for module in self.attention.modules():
            if isinstance(module, _NormBase):
                raise ValueError(
                    f"ASR over {type(self.attention[0]).__name__}: its {type(module).__name__} would normalise over a "
                    "batch, and ASR has one vector; use an attention without, such as 'se' or 'eca'"
                )
        self.psi = nn.Parameter(torch.empty(stack, channels, device=device, dtype=dtype))
        nn.init.constant_(self.psi, psi)

    def reset_parameters(self) -> None:
        """Draw the parameters anew; call it after ``to_empty`` on a model built on the meta device."""
        for attention in self.attention:
            if callable(reset := getattr(attention, "reset_parameters", None)):
                reset()
        nn.init.constant_(self.psi, self.start)

    def forward(self) -> Tensor:
        """Return v ``(C,)``."""
        vectors = (self.psi.squeeze(0),) if self.stack == 1 else self.psi.unbind()
        factors = [asr_attention(psi, attention) for psi, attention in zip(vectors, self.attention, strict=True)]
        v = reduce(torch.mul, factors)
        if v.shape != (self.channels,):
            name = type(self.attention[0]).__name__
            raise ValueError(f"ASR over {name}: expected a gate (1, {self.channels}) for (1, {self.channels})")
        return v

    def extra_repr(self) -> str:
        """Show the width and the number of factors."""
        return f"{self.channels}, stack={self.stack}"
