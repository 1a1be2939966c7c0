"""RAS: a recursive channel gate with two vectors in place of a perceptron, for every block.

    u_1 = w ⊙ p + b,    n = BatchNorm(u_1),    u_2 = w ⊙ n + b,    a = σ(u_2),    p the mean of the branch (B, C)

Both steps use the same w and b (C); with the norm a gate has 4 C parameters. In evaluation it is one affine map,

    a = σ(A ⊙ p + B),   A = w² γ / sqrt(v + ε),   B = w ((b - μ) γ / sqrt(v + ε) + β) + b,

to which ``fold`` reduces it (2 C parameters).

Differences from the paper:
    - ``init="paper"`` (w = 0, b = -1) is the authors'. With w = 0 the norm sees a constant, so that the gradients of w,
      γ and β are exactly zero and only b learns: w leaves zero only through rounding noise inside the norm. In 200
      steps of a ResNet-20 (SGD, learning rate 0.1, ten classes of noisy 8x8 patterns) max |w| came to 7e-6. The
      default here is ``init="small"``, w = 0.1, from which the same training moved w by 0.05.
    - A batch of one sample cannot be normalised in training and is refused by name.

References:
    - Zhong, Wen, Qin, Huang: Deepening Neural Networks Implicitly and Locally via Recurrent Attention Strategy.
      arXiv 2210.15676.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ._gate import ChannelGate
from .functional import ras_gate


class RAS(ChannelGate):
    """The recursive gate of one block.

    a = σ(w ⊙ BatchNorm(w ⊙ p + b) + b)

    Args:
        channels: Width C of the residual branch.
        init: ``"small"``: w = 0.1, b = -1. ``"paper"``: w = 0, b = -1, from which w has no gradient. ``"identity"``:
            w = 0.1, b = -1 and a norm with weight zero; the buffer ``gate_scale`` = 1/σ(-1) makes every gate exactly
            one, and the weight of the norm has a gradient.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: ``init`` is out of range.

    Example:
        >>> import torch
        >>> gate = RAS(64)
        >>> sum(parameter.numel() for parameter in gate.parameters())
        256
        >>> gate(torch.randn(2, 64)).shape
        torch.Size([2, 64])
    """

    inits = ("small", "paper", "identity")

    def __init__(
        self,
        channels: int,
        *,
        init: Literal["small", "paper", "identity"] = "small",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, init=init, device=device, dtype=dtype)
        self.w = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.b = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.bn = nn.BatchNorm1d(channels, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the parameters anew; call it after ``to_empty`` on a model built on the meta device."""
        nn.init.constant_(self.w, 0.0 if self.init == "paper" else 0.1)
        nn.init.constant_(self.b, -1.0)
        self.bn.reset_parameters()
        if self.init == "identity":
            nn.init.zeros_(self.bn.weight)
        self._make_identity(torch.sigmoid(torch.tensor(-1.0)))

    def refusal(self, branch: Tensor) -> str | None:
        """Say why this gate cannot take the branch, or None."""
        if self.bn.training and branch.shape[0] == 1:
            return "normalises over the batch and cannot train on one sample; give at least two, or call eval()"
        return None

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return (ras_gate(p, self.w, self.b, self.bn),)

    def folded(self) -> "AffineGate":
        """Return the gate of evaluation mode as one affine map and a sigmoid."""
        gate = AffineGate(self.channels, device=self.w.device, dtype=self.w.dtype)
        with torch.no_grad():
            mean, variance = self.bn.running_mean, self.bn.running_var
            assert mean is not None, "RAS tracks its statistics"
            assert variance is not None, "RAS tracks its statistics"
            w, b = self.w.double(), self.b.double()
            slope = self.bn.weight.double() / (variance.double() + self.bn.eps).sqrt()
            gate.weight.copy_(w * w * slope)
            gate.bias.copy_(w * ((b - mean.double()) * slope + self.bn.bias.double()) + b)
            gate.gate_scale = None if self.gate_scale is None else self.gate_scale.clone()
        return gate.train(self.training)


class AffineGate(ChannelGate):
    """a = σ(A ⊙ p + B): what a RAS gate is in evaluation.

    Args:
        channels: Width C of the residual branch.
        init: ``"identity"`` adds the buffer ``gate_scale``.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        channels: int,
        *,
        init: Literal["paper", "identity"] = "paper",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, init=init, device=device, dtype=dtype)
        self.weight = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return (torch.sigmoid(torch.addcmul(self.bias, self.weight, p)),)
