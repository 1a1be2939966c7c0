"""SE: squeeze and excitation, a gate of its own for every block.

    u = W_2 relu(W_1 p + b_1) + b_2,    a = σ(u),    p the spatial mean of the residual branch (B, C)

A gate with the hidden width R = C/r has 2 C R + R + C parameters.

Differences from the paper:
    - Both layers have biases, as in the code of LSAS and ASR, whose parameter counts this reproduces; r is 16.

References:
    - Hu, Shen, Sun: Squeeze-and-Excitation Networks. CVPR 2018, arXiv 1709.01507.
"""

import torch
from torch import Tensor, nn

from ._gate import ChannelGate, Init, reduced_width


class SE(ChannelGate):
    """Squeeze and excitation.

    a = σ(W_2 relu(W_1 p + b_1) + b_2)

    Args:
        channels: Width C of the residual branch.
        reduction: r; the hidden width is C / r, rounded, at least 1.
        init: ``"paper"``: the default of ``nn.Linear``. ``"identity"``: the second layer is zero and the buffer
            ``gate_scale`` = 2 makes every gate exactly one, which leaves a pretrained network as it is.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: ``reduction`` or ``init`` is out of range.

    Example:
        >>> import torch
        >>> gate = SE(64)
        >>> sum(parameter.numel() for parameter in gate.parameters())
        580
        >>> gate(torch.randn(2, 64)).shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: float = 16,
        init: Init = "paper",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, init=init, device=device, dtype=dtype)
        hidden = reduced_width(channels, reduction)
        self.fc1 = nn.Linear(channels, hidden, device=device, dtype=dtype)
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

    def logits(self, p: Tensor) -> Tensor:
        """Map means ``(B, C)`` to what the sigmoid is applied to, ``(B, C)``."""
        logits: Tensor = self.fc2(torch.relu(self.fc1(p)))
        return logits

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return (torch.sigmoid(self.logits(p)),)
