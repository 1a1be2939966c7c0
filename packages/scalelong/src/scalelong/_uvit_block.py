"""The transformer block of U-ViT, with the authors' parameter names."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from .functional import skip_linear


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for query, key and value."""

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool, **factory: Any) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias, **factory)
        self.proj = nn.Linear(dim, dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int, **factory: Any) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden, **factory), nn.GELU(), nn.Linear(hidden, dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``."""
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """``x = W cat([x, κ skip]) + b`` where there is a skip, then attention and MLP, each on its norm and added."""

    def __init__(
        self, dim: int, heads: int, *, mlp_ratio: float, qkv_bias: bool, skip: bool = False, **factory: Any
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, **factory)
        self.attn = Attention(dim, heads, qkv_bias=qkv_bias, **factory)
        self.norm2 = nn.LayerNorm(dim, **factory)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), **factory)
        self.skip_linear: nn.Module | None = nn.Linear(2 * dim, dim, **factory) if skip else None

    def forward(self, x: Tensor, skip: Tensor | None = None, scale: float | Tensor = 1.0) -> Tensor:
        """Map ``(B, L, D)`` and a skip of the same shape to ``(B, L, D)``; ``scale`` is κ or a gate ``(B, L, 1)``."""
        if self.skip_linear is not None and skip is not None:
            x = self._join(x, skip, scale)
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]

    def _join(self, x: Tensor, skip: Tensor, scale: float | Tensor) -> Tensor:
        layer = self.skip_linear
        if type(layer) is nn.Linear and not (layer._forward_hooks or layer._forward_pre_hooks):
            return skip_linear(x, skip, layer.weight, layer.bias, scale)
        assert layer is not None, "the caller looked"
        return layer(torch.cat([x, skip * scale], dim=-1))  # type: ignore[no-any-return]  # as wrapped by LoRA
