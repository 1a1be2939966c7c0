"""DIA: one recurrent attention cell shared by all residual blocks of a stage.

For block t of a stage, with residual branch ``z_t`` (the output of its last norm) and skip ``s_t``::

    p_t      = spatial mean of z_t                              (B, C)
    h_t, c_t = dia_cell(p_t, h_{t-1}, c_{t-1}),  h_0 = c_0 = 0  (B, C)
    x_{t+1}  = relu(z_t ⊙ h_t + s_t)                            (B, C, H, W)

One cell has 10 C²/r + 2 C/r + 8 C parameters, however many blocks share it.

Differences from the paper:
    - The state takes the device of the features and the dtype of the weights; the authors' code fixes CUDA and float32.
    - Any width and any spatial size; the authors' code fixes widths 64, 128, 256 and 8 x 8 final maps.
    - Under autocast the cell, which is small, is computed in the dtype of its weights.
    - One layer only: the authors' code has an option for more, and all their networks use one.
    - ``init="identity"`` is ours. With the authors' initialisation the gate starts near 0.25, which damps every
      residual branch of a pretrained network about four times, and no bias can open it fully: in the first block
      c < 1, hence h < σ(1) = 0.731.

References:
    - Huang, Liang, Liang, Yang: DIANet: Dense-and-Implicit Attention Network. AAAI 2020, arXiv 1905.10671.
    - Huang, Liang, Liang, He, Lin: Layer-wise Shared Attention Network on Dynamical System Perspective.
      arXiv 2210.16101, version 1.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from ._gate import ChannelGate, Init
from .functional import dia_cell


class DIA(ChannelGate):
    """The shared cell of one stage.

    h', c' = dia_cell(p, h, c) and the gate is a = h', or a = h' ⊙ gate_scale after ``init="identity"``.

    Args:
        channels: Width C of the residual branch.
        reduction: r; the reduced width is ``C // r``. In 1 .. C. The authors' CIFAR networks use 4.
        init: ``"paper"``: the default of ``nn.Linear``. ``"identity"``: the weights and biases that produce the last
            logits are zero, so that the gate is one constant g0 for every input and block, and the buffer
            ``gate_scale`` = 1/g0 makes it exactly one: a pretrained network is unchanged and still trains.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: ``reduction`` or ``init`` is out of range.

    Example:
        >>> import torch
        >>> cell = DIA(64)
        >>> sum(parameter.numel() for parameter in cell.parameters())
        10784
        >>> p = torch.randn(2, 64)
        >>> a, h, c = cell(p, *cell.initial_state(p))
        >>> a.shape
        torch.Size([2, 64])
    """

    stateful = True

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        init: Init = "paper",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, init=init, device=device, dtype=dtype)
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction={reduction} must lie in 1..{channels}, the width of the residual branch")
        self.reduction = reduction
        reduced = channels // reduction

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.w_ih1, self.b_ih1 = empty(reduced, channels), empty(reduced)
        self.w_ih2, self.b_ih2 = empty(4 * channels, reduced), empty(4 * channels)
        self.w_hh1, self.b_hh1 = empty(reduced, channels), empty(reduced)
        self.w_hh2, self.b_hh2 = empty(4 * channels, reduced), empty(4 * channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew; call it after ``to_empty`` on a model built on the meta device."""
        for weight, bias in (
            (self.w_ih1, self.b_ih1),
            (self.w_ih2, self.b_ih2),
            (self.w_hh1, self.b_hh1),
            (self.w_hh2, self.b_hh2),
        ):
            bound = 1 / sqrt(weight.shape[1])  # what nn.Linear does
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)
        if self.gate_scale is not None:
            for last in (self.w_ih2, self.b_ih2, self.w_hh2, self.b_hh2):
                nn.init.zeros_(last)
            zeros = torch.zeros_like(self.gate_scale)[None]
            g0, *_ = self._gate(zeros, zeros, zeros)
            self._make_identity(g0[0])

    def initial_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the zero ``(h, c)``, each ``(B, C)``, for features or pooled features ``x`` of ``B`` samples."""
        zeros = x.new_zeros(x.shape[0], self.channels, dtype=self.w_ih2.dtype)
        return zeros, zeros

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        h, c = dia_cell(
            p,
            *state,
            w_ih1=self.w_ih1,
            b_ih1=self.b_ih1,
            w_ih2=self.w_ih2,
            b_ih2=self.b_ih2,
            w_hh1=self.w_hh1,
            b_hh1=self.b_hh1,
            w_hh2=self.w_hh2,
            b_hh2=self.b_hh2,
        )
        return h, h, c

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"{self.channels}, reduction={self.reduction}, init={self.init!r}"
