"""CBAM: attention over channels, then over positions, of every block.

    a = σ(mlp(mean over positions) + mlp(max over positions))       (B, C)
    m = σ(bn(conv7x7[mean over channels; max over channels]))       (B, 1, H, W)
    y = (x ⊙ a) ⊙ m

It sees the whole map, not only its mean: it has a map-sized cost, no logits for LSAS and no input-free form for ASR.

References:
    - Woo, Park, Lee, Kweon: CBAM: Convolutional Block Attention Module. ECCV 2018, arXiv 1807.06521.
"""

import torch
from torch import Tensor, nn

from ._gate import Init, reduced_width


class CBAM(nn.Module):
    """Channel and spatial attention.

    y = (x ⊙ a) ⊙ m with ``a`` from ``channel`` and ``m`` from ``spatial``

    Args:
        channels: Width C of the residual branch.
        reduction: r; the hidden width is C / r, rounded, at least 1.
        kernel_size: Odd size of the spatial kernel.
        init: ``"paper"``: the defaults of the layers. ``"identity"``: both logits are zero and the buffer
            ``map_scale`` = 4 makes the product of the gates exactly one: a pretrained network is unchanged.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: ``reduction``, ``kernel_size`` or ``init`` is out of range.

    Example:
        >>> import torch
        >>> attention = CBAM(64)
        >>> sum(parameter.numel() for parameter in attention.parameters())
        680
        >>> attention(torch.randn(2, 64, 5, 7)).shape
        torch.Size([2, 64, 5, 7])
    """

    map_scale: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        reduction: float = 16,
        kernel_size: int = 7,
        init: Init = "paper",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if init not in ("paper", "identity"):
            raise ValueError(f"init={init!r} must be 'paper' or 'identity'")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd and positive")
        self.channels, self.init = channels, init
        self.channel = _ChannelGate(channels, reduced_width(channels, reduction), device=device, dtype=dtype)
        self.spatial = nn.Sequential(
            nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False, device=device, dtype=dtype),
            nn.BatchNorm2d(1, device=device, dtype=dtype),
        )
        scale = torch.empty((), device=device, dtype=dtype) if init == "identity" else None
        self.register_buffer("map_scale", scale)
        self._start()

    def reset_parameters(self) -> None:
        """Draw the parameters anew; call it after ``to_empty`` on a model built on the meta device."""
        for layer in (self.channel.fc1, self.channel.fc2, *self.spatial):
            layer.reset_parameters()
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        if self.map_scale is not None:
            norm = self.spatial[1]
            assert isinstance(norm, nn.BatchNorm2d), "built above"
            for last in (self.channel.fc2.weight, self.channel.fc2.bias, norm.weight):
                nn.init.zeros_(last)
            self.map_scale.fill_(4)

    def refusal(self, branch: Tensor) -> str | None:
        """Say why this attention cannot take the branch, or None."""
        return None if branch.ndim == 4 else f"has a spatial kernel in two dimensions, got {tuple(branch.shape)}"

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, C, H, W)`` to features of the same shape."""
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"expected features (B, {self.channels}, H, W), got {tuple(x.shape)}")
        x = x * self.channel(x)[:, :, None, None]
        positions = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        m = torch.sigmoid(self.spatial(positions))
        return x * (m if self.map_scale is None else m * self.map_scale)

    def extra_repr(self) -> str:
        """Show the width and the start."""
        return f"{self.channels}, init={self.init!r}"


class _ChannelGate(nn.Module):
    """σ(mlp(mean) + mlp(max)), a module so that a hook sees the gate ``(B, C)``."""

    def __init__(
        self, channels: int, hidden: int, *, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden, device=device, dtype=dtype)
        self.fc2 = nn.Linear(hidden, channels, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        mean, largest = x.mean((2, 3)), x.amax((2, 3))
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(mean))) + self.fc2(torch.relu(self.fc1(largest))))
