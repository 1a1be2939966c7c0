"""What every channel gate has in common: pooled features in, one factor a channel out."""

from contextlib import nullcontext
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

Init = Literal["paper", "identity"]


class ChannelGate(nn.Module):
    """A gate that sees a branch only through its spatial mean.

    a, *state' = gate(p, *state), and the branch is multiplied by a, or by a ⊙ gate_scale after ``init="identity"``.

    ``forward`` returns ``a`` of a stateless gate and ``(a, *state')`` of a stateful one. Subclasses compute in
    ``_gate`` and draw their parameters in ``reset_parameters``.

    Args:
        channels: Width C of the branch.
        init: ``"identity"`` adds the buffer ``gate_scale``, which ``reset_parameters`` fills with 1 / gate.
        device: Of the buffer.
        dtype: Of the buffer.

    Raises:
        ValueError: ``channels`` or ``init`` is out of range.
    """

    stateful: ClassVar[bool] = False
    needs_skip: ClassVar[bool] = False
    inits: ClassVar[tuple[str, ...]] = ("paper", "identity")
    gate_scale: Tensor | None

    def __init__(
        self, channels: int, *, init: str, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels={channels} must be at least 1")
        if init not in self.inits:
            raise ValueError(f"init={init!r} must be {' or '.join(map(repr, self.inits))}")
        self.channels, self.init = channels, init
        scale = torch.empty(channels, device=device, dtype=dtype) if init == "identity" else None
        self.register_buffer("gate_scale", scale)

    def initial_state(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the state before the first block of a stage, for features or pooled features of ``B`` samples."""
        return ()

    def forward(self, p: Tensor, *state: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute one block's gate, under autocast too in the dtype of the weights.

        Args:
            p: Pooled residual branch ``(B, C)``.
            state: What the previous block's call returned after its gate, or ``initial_state``.

        Returns:
            The gate ``(B, C)`` in the dtype of ``p``; of a stateful gate a tuple of it and the state to pass on.

        Raises:
            ValueError: ``p`` is not ``(B, C)``.
        """
        if p.ndim != 2 or p.shape[1] != self.channels:
            raise ValueError(f"expected pooled features (B, {self.channels}), got {tuple(p.shape)}")
        dtype, device = next(self.parameters()).dtype, p.device.type
        autocast = device != "meta" and torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if autocast else nullcontext():
            a, *after = self._gate(p.to(dtype), *[s.to(dtype) for s in state])
            if self.gate_scale is not None:
                a = a * self.gate_scale
        return (a.to(p.dtype), *after) if self.stateful else a.to(p.dtype)

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        raise TypeError(f"{type(self).__name__} does not compute a gate")

    @torch.no_grad()
    def _make_identity(self, gate: Tensor | float) -> None:
        """Fill ``gate_scale`` so that the constant ``gate`` becomes exactly one."""
        if self.gate_scale is not None:
            self.gate_scale.copy_(1 / torch.as_tensor(gate, dtype=self.gate_scale.dtype, device=self.gate_scale.device))

    def extra_repr(self) -> str:
        """Show the width and the start."""
        return f"{self.channels}, init={self.init!r}"


def reduced_width(channels: int, reduction: float) -> int:
    """Return the hidden width of a squeeze: ``channels / reduction`` to the nearest, at least 1.

    Raises:
        ValueError: ``reduction`` is not in 1 .. ``channels``.
    """
    if not 1 <= reduction <= channels:
        raise ValueError(f"reduction={reduction} must lie in 1..{channels}, the width of the residual branch")
    return max(1, round(channels / reduction))


def refusal_of(attention: nn.Module, branch: Tensor) -> str | None:
    """Ask an attention why it cannot take a branch ``(B, C, *K)``; None if it can or has no ``refusal``."""
    ask = getattr(attention, "refusal", None)
    answer: str | None = ask(branch) if callable(ask) else None
    return answer
