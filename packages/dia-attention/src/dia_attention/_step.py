"""StepNet: a channel gate as the step size of x_{t+1} = relu(x_t + h_t ⊙ f_t(x_t)), chosen from the local stiffness.

For block t of a stage, with skip ``x_t`` (after its projection) and residual branch ``f_t``, one gate a block::

    q_t = spatial mean of x_t,    p_t = spatial mean of f_t                          (B, C)
    κ_t = |p_t - p_{t-1}| / (|q_t - q_{t-1}| + ε),    κ = 0 in the first block       (B, C)
    h_t = σ(W_2 relu(W_1 [n(q_t); n(p_t); log(1 + κ_t)] + b_1) + b_2)                (B, C)

κ is the secant of f along the trajectory, |f(x) - f(x')| / |x - x'|, channel by channel: the quantity whose size makes
an explicit step unstable. n standardises each sample over its channels. A gate has 4 C²/r + C/r + C parameters.

This definition is ours. Of the paper only the abstract was read (attention as a stiffness-aware step size of the
residual network seen as an ODE solver); nothing here claims its numbers. κ is an observation, as the error estimate of
an adaptive solver is: no gradient flows through it, which also keeps 1 / |q_t - q_{t-1}| out of the backward.

References:
    - Huang, Liang, Qin, Zhong, Lin: Understanding Self-attention Mechanism via Dynamical System Perspective.
      ICCV 2023, arXiv 2308.09939.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ._gate import ChannelGate, Init, reduced_width
from .functional import step_size


class StepGate(ChannelGate):
    """The step size of one block.

    h = σ(W_2 relu(W_1 z + b_1) + b_2), z the chosen parts of [n(q); n(p); log(1 + κ)]

    Args:
        channels: Width C of the residual branch.
        reduction: r; the hidden width is C / r, rounded, at least 1.
        inputs: ``"qpk"``: state, branch and stiffness. ``"qp"`` and ``"p"`` leave some out, for ablation.
        init: ``"paper"``: the default of ``nn.Linear``. ``"identity"``: the second layer is zero and the buffer
            ``gate_scale`` = 2 makes every step exactly one, which leaves a pretrained network as it is.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: ``reduction``, ``inputs`` or ``init`` is out of range.

    Example:
        >>> import torch
        >>> gate = StepGate(64)
        >>> sum(parameter.numel() for parameter in gate.parameters())
        1092
        >>> p, q = torch.randn(2, 2, 64)
        >>> h, *state = gate(p, q, *gate.initial_state(p))
        >>> h.shape
        torch.Size([2, 64])
    """

    stateful = True
    needs_skip = True

    def __init__(
        self,
        channels: int,
        *,
        reduction: float = 16,
        inputs: Literal["p", "qp", "qpk"] = "qpk",
        init: Init = "paper",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, init=init, device=device, dtype=dtype)
        if inputs not in ("p", "qp", "qpk"):
            raise ValueError(f"inputs={inputs!r} must be 'p', 'qp' or 'qpk'")
        self.inputs = inputs
        hidden = reduced_width(channels, reduction)
        self.fc1 = nn.Linear(len(inputs) * channels, hidden, device=device, dtype=dtype)
        self.fc2 = nn.Linear(hidden, channels, device=device, dtype=dtype)
        self._start()

    def reset_parameters(self) -> None:
        """Draw the parameters anew; call it after ``to_empty`` on a model built on the meta device."""
        self.fc1.reset_parameters()
        self.fc2.reset_parameters()
        self._start()

    def _start(self) -> None:
        if self.init == "identity":
            nn.init.zeros_(self.fc2.weight)
            nn.init.zeros_(self.fc2.bias)
        self._make_identity(0.5)

    def initial_state(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return ``(q, p, begun)`` before the first block: zeros, each of ``B`` rows; ``begun`` is ``(B, 1)``."""
        zeros = x.new_zeros(x.shape[0], self.channels, dtype=self.fc1.weight.dtype)
        return zeros, zeros, zeros[:, :1]

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        q, q_before, p_before, begun = state
        h = step_size(
            q,
            p,
            q_before,
            p_before,
            begun,
            w1=self.fc1.weight,
            b1=self.fc1.bias,
            w2=self.fc2.weight,
            b2=self.fc2.bias,
            inputs=self.inputs,
        )
        return h, q.detach(), p.detach(), torch.ones_like(begun)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"{self.channels}, inputs={self.inputs!r}, init={self.init!r}"
