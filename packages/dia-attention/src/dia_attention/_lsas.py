"""LSAS: a chain of sub-attentions on top of the logits of another attention.

    u_0 = logits of the base attention (SE: W_2 relu(W_1 p + b_1) + b_2)      (B, C)
    u_k = w_k ⊙ u_{k-1} + b_k,   k = 1 .. K
    a   = σ(u_0) ⊙ σ(u_1) ⊙ ... ⊙ σ(u_K)

The order K adds 2 C K parameters to the base. It stands in the late stages only: by default in the last of three and
the last two of four. Order 0 is the base itself.

Differences from the paper:
    - Any base with logits; the authors' code has SE.

References:
    - Zhong, Wen, Qin, Chen, Huang: LSAS: Lightweight Sub-attention Strategy for Alleviating Attention Bias Problem.
      ICME 2023, arXiv 2305.05200.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ._base import Base, build_base
from ._gate import ChannelGate, Init
from .functional import lsas_gate


class LSAS(ChannelGate):
    """Sub-attention of order K over a base attention.

    a = Π_k σ(u_k), u_0 the base's logits, u_k = w_k ⊙ u_{k-1} + b_k

    Args:
        channels: Width C of the residual branch.
        base: ``"se"``, ``"eca"``, or a class that is called with the width and whose modules have a method
            ``logits`` from ``(B, C)`` to ``(B, C)``.
        order: K >= 0; the paper's networks have 1.
        reduction: Of the base, None for the base's own.
        init: ``"paper"``: w_k = 0.5, b_k = -0.5. ``"identity"``: the base starts with zero logits and the buffer
            ``gate_scale`` makes every gate exactly one, which leaves a pretrained network as it is.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: An argument is out of range or the base has no logits.

    Example:
        >>> import torch
        >>> gate = LSAS(64, order=2)
        >>> sum(parameter.numel() for parameter in gate.parameters())  # SE: 580
        836
        >>> gate(torch.randn(2, 64)).shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        channels: int,
        *,
        base: Base = "se",
        order: int = 1,
        reduction: float | None = None,
        init: Init = "paper",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, init=init, device=device, dtype=dtype)
        if order < 0:
            raise ValueError(f"order={order} must be at least 0")
        self.order = order
        self.base = build_base(base, channels, reduction=reduction, init=init, device=device, dtype=dtype)
        if not callable(getattr(self.base, "logits", None)):
            raise ValueError(
                f"LSAS needs the logits of its base, and {type(self.base).__name__} has no method logits(p) from "
                "(B, C) to (B, C)"
            )
        self.w = nn.Parameter(torch.empty(order, channels, device=device, dtype=dtype))
        self.b = nn.Parameter(torch.empty(order, channels, device=device, dtype=dtype))
        self._start()

    def reset_parameters(self) -> None:
        """Draw the parameters anew; call it after ``to_empty`` on a model built on the meta device."""
        if callable(reset := getattr(self.base, "reset_parameters", None)):
            reset()
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        self.w.fill_(0.5)
        self.b.fill_(-0.5)
        zeros = torch.zeros(1, self.channels, device=self.w.device, dtype=self.w.dtype)
        self._make_identity(lsas_gate(zeros, self.w.unbind(), self.b.unbind())[0])

    def logits(self, p: Tensor) -> Tensor:
        """Map means ``(B, C)`` to the logits of the base, ``(B, C)``."""
        logits: Callable[[Tensor], Tensor] = self.base.logits  # type: ignore[assignment]
        return logits(p)

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return (lsas_gate(self.logits(p), self.w.unbind(), self.b.unbind()),)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"{self.channels}, order={self.order}, init={self.init!r}"
