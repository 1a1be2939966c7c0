"""The module that holds the parameters of one layer of the encoder."""

from typing import Any

import torch
from torch import Tensor, nn

from .functional import Mixing, encoder_layer


class EncoderLayer(nn.Module):
    """One layer of the encoder, post-norm; ``functional.encoder_layer`` has the formula."""

    def __init__(
        self,
        width: int,
        ff_dim: int,
        num_heads: int,
        *,
        mixing: Mixing,
        dropout: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        where: Any = {"device": device, "dtype": dtype}
        self.num_heads, self.mixing, self.dropout = num_heads, mixing, dropout
        self.in_proj = nn.Linear(width, width if mixing == "none" else 3 * width, **where)
        self.out_proj = nn.Linear(width, width, **where)
        self.linear1 = nn.Linear(width, ff_dim, **where)
        self.linear2 = nn.Linear(ff_dim, width, **where)
        self.norm1 = nn.LayerNorm(width, **where)
        self.norm2 = nn.LayerNorm(width, **where)

    def reset_attention(self) -> None:
        """Draw the attention's parameters as ``nn.MultiheadAttention`` does."""
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``(B, N, width)`` to the same shape."""
        names = ("in_proj", "out_proj", "linear1", "linear2", "norm1", "norm2")
        dropout = self.dropout if self.training else 0.0
        return encoder_layer(
            x, weights_of(self, *names), num_heads=self.num_heads, mixing=self.mixing, mask=mask, dropout=dropout
        )


def weights_of(module: nn.Module, *names: str) -> dict[str, Tensor]:
    """Return the weights and biases of some submodules as ``functional`` takes them."""
    parts = [(name, getattr(module, name)) for name in names]
    return {f"{name}.{kind}": getattr(part, kind) for name, part in parts for kind in ("weight", "bias")}
