"""ECA: efficient channel attention, one small convolution over the channels.

    u = conv1d(p),    a = σ(u),    p the spatial mean of the residual branch (B, C), seen as a signal of length C

The kernel has k weights, k the odd number that |log2(C) / 2 + 1/2| is cut to (up where that is even).

References:
    - Wang, Wu, Zhu, Li, Zuo, Hu: ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks.
      CVPR 2020, arXiv 1910.03151.
"""

from math import log2

import torch
from torch import Tensor, nn

from ._gate import ChannelGate, Init


class ECA(ChannelGate):
    """Efficient channel attention.

    a = σ(conv1d(p)), zero padding, no bias

    Args:
        channels: Width C of the residual branch.
        kernel_size: Odd length k of the kernel; None is the paper's, 3 for C = 64, 5 for 128 to 1024.
        init: ``"paper"``: the default of ``nn.Conv1d``. ``"identity"``: the kernel is zero and the buffer
            ``gate_scale`` = 2 makes every gate exactly one, which leaves a pretrained network as it is.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: ``kernel_size`` or ``init`` is out of range.

    Example:
        >>> import torch
        >>> gate = ECA(256)
        >>> sum(parameter.numel() for parameter in gate.parameters())
        5
        >>> gate(torch.randn(2, 256)).shape
        torch.Size([2, 256])
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int | None = None,
        init: Init = "paper",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, init=init, device=device, dtype=dtype)
        if kernel_size is None:
            whole = int(abs(log2(channels) + 1) / 2)
            kernel_size = whole if whole % 2 else whole + 1
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd and positive")
        padding = kernel_size // 2
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=padding, bias=False, device=device, dtype=dtype)
        self._start()

    def reset_parameters(self) -> None:
        """Draw the parameters anew; call it after ``to_empty`` on a model built on the meta device."""
        self.conv.reset_parameters()
        self._start()

    def _start(self) -> None:
        if self.init == "identity":
            nn.init.zeros_(self.conv.weight)
        self._make_identity(0.5)

    def logits(self, p: Tensor) -> Tensor:
        """Map means ``(B, C)`` to what the sigmoid is applied to, ``(B, C)``."""
        logits: Tensor = self.conv(p.unsqueeze(1)).squeeze(1)
        return logits

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return (torch.sigmoid(self.logits(p)),)
