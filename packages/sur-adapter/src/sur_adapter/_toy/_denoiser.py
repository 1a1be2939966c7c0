"""A small text-conditioned diffusion model on pixels: patches that read the text by cross-attention."""

import math

import torch
from torch import Tensor, nn


class PixelDenoiser(nn.Module):
    """Predict the flow of a noisy picture.

    Pictures are (B, channels, size, size); time is in [0, 1], 1 is noise; text states are (B, N, text_width).
    """

    def __init__(
        self, *, channels: int, size: int, patch: int, text_width: int, width: int = 128, depth: int = 3, heads: int = 4
    ) -> None:
        super().__init__()
        self.patch, self.side = patch, size // patch
        self.width = width
        self.into = nn.Linear(channels * patch**2, width)
        self.places = nn.Parameter(0.02 * torch.randn(self.side**2, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.read = nn.Linear(text_width, width)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerDecoder(layer, depth, norm=nn.LayerNorm(width))
        self.out = nn.Linear(width, channels * patch**2)

    def forward(self, noisy: Tensor, time: Tensor, states: Tensor) -> Tensor:
        """Give the prediction, of the shape of `noisy`."""
        batch, channels, size, _ = noisy.shape
        p, s = self.patch, self.side
        patches = noisy.reshape(batch, channels, s, p, s, p).permute(0, 2, 4, 1, 3, 5).reshape(batch, s * s, -1)
        tokens = self.into(patches) + self.places + self.time(_waves(time, self.width))[:, None]
        flow = self.out(self.layers(tokens, self.read(states)))
        flow = flow.reshape(batch, s, s, channels, p, p).permute(0, 3, 1, 4, 2, 5)
        return flow.reshape(batch, channels, size, size)  # type: ignore[no-any-return]


def _waves(time: Tensor, width: int) -> Tensor:
    rates = torch.exp(torch.linspace(0, math.log(1000), width // 2, device=time.device))
    angles = time[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
