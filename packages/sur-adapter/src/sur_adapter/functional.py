"""The adapter's formula, tensors in and tensors out.

With the text states ``x`` (B, N, d), one prompt a row::

    h   = encoder_layer(... encoder_layer(x))           depth times
    s   = softmax((h Wq)(x Wk)' / sqrt(d)),  v = s x + x
    r   = relu(v W1) W2 + v                              token_attention
    c   = r Wfc
    out = x + scale c   or   scale c + (1 - scale) x     residual

References:
    - Zhong, Huang, Wen, Qin, Lin: SUR-adapter: Enhancing Text-to-Image Pre-trained Diffusion Models with Large Language
      Models. ACM Multimedia 2023, arXiv 2305.05189.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

__all__ = ["Mixing", "Residual", "encoder_layer", "residual", "token_attention", "token_mask"]

Mixing = Literal["tokens", "none", "batch"]
Residual = Literal["add", "lerp"]


def encoder_layer(
    x: Tensor,
    weights: Mapping[str, Tensor],
    *,
    num_heads: int,
    mixing: Mixing = "tokens",
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """One post-norm transformer layer.

    ``x' = norm1(x + attention(x))``, ``y = norm2(x' + relu(x' W1) W2)``

    Args:
        x: ``(B, N, d)``.
        weights: By name ``{in_proj,out_proj,linear1,linear2,norm1,norm2}.{weight,bias}``, as ``nn.Linear`` and
            ``nn.LayerNorm`` hold them. ``in_proj`` is ``(3d, d)``: query, key, value; for ``"none"`` ``(d, d)``: value.
        num_heads: Heads of the attention; they divide d.
        mixing: ``"tokens"``: attention along the sequence. ``"none"``: each token attends to itself alone, which
            leaves the value. ``"batch"``: along the batch at each position, as in the authors' code, where a prompt's
            result depends on its neighbours.
        mask: ``(B, N)`` bool, False where no token may look; for ``"tokens"``.
        dropout: Probability, in the three places of ``nn.TransformerEncoderLayer`` and on the attention weights.

    Returns:
        ``(B, N, d)``.

    Example:
        >>> import torch
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        >>> names = {key.replace("self_attn.", "").replace("in_proj_", "in_proj."): value
        ...     for key, value in layer.state_dict().items()}
        >>> x = torch.randn(2, 5, 8)
        >>> torch.allclose(encoder_layer(x, names, num_heads=2), layer(x), atol=1e-5)
        True
    """
    mixed = F.linear(x, weights["in_proj.weight"], weights["in_proj.bias"])
    if mixing != "none":
        mixed = _self_attention(mixed, num_heads, mixing, mask, dropout)
    mixed = F.linear(mixed, weights["out_proj.weight"], weights["out_proj.bias"])
    x = _norm(x + F.dropout(mixed, dropout, dropout > 0), weights, "norm1")
    inner = F.relu(F.linear(x, weights["linear1.weight"], weights["linear1.bias"]))
    inner = F.linear(F.dropout(inner, dropout, dropout > 0), weights["linear2.weight"], weights["linear2.bias"])
    return _norm(x + F.dropout(inner, dropout, dropout > 0), weights, "norm2")


def token_attention(h: Tensor, x: Tensor, weights: Mapping[str, Tensor], *, mask: Tensor | None = None) -> Tensor:
    """Attention from the encoder's states to the text states, and a small perceptron, both with a residual.

    ``v = softmax((h Wq)(x Wk)' / sqrt(d)) x + x``, ``r = relu(v W1) W2 + v``; one head of width d.

    Args:
        h: States of the encoder ``(B, N, d)``, which ask.
        x: Text states ``(B, N, d)``, keys and values.
        weights: By name ``{query,key,hidden,output}.{weight,bias}``, each ``(d, d)`` and ``(d,)``.
        mask: ``(B, N)`` bool, False where no token may look.

    Returns:
        r, ``(B, N, d)``.

    Example:
        >>> import torch
        >>> zero = {f"{name}.{kind}": torch.zeros((2, 2) if kind == "weight" else 2)
        ...     for name in ("query", "key", "hidden", "output") for kind in ("weight", "bias")}
        >>> token_attention(torch.ones(1, 2, 2), torch.tensor([[[1.0, 0.0], [3.0, 0.0]]]), zero)
        tensor([[[3., 0.],
                 [5., 0.]]])
    """
    query = F.linear(h, weights["query.weight"], weights["query.bias"])
    key = F.linear(x, weights["key.weight"], weights["key.bias"])
    attended = F.scaled_dot_product_attention(query[:, None], key[:, None], x[:, None], attn_mask=_keys(mask))
    v = attended[:, 0] + x
    inner = F.relu(F.linear(v, weights["hidden.weight"], weights["hidden.bias"]))
    return F.linear(inner, weights["output.weight"], weights["output.bias"]) + v


def residual(x: Tensor, c: Tensor, *, scale: float, mode: Residual = "add") -> Tensor:
    """Add the correction c to the text states.

    ``"add"``: ``x + scale c``. ``"lerp"``, the authors': ``scale c + (1 - scale) x``.

    Args:
        x: Text states ``(B, N, d)``.
        c: Corrections, of the same shape.
        scale: eta of the paper.
        mode: See above.

    Returns:
        ``(B, N, d)``.

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1, 1)
        >>> residual(one, 4 * one, scale=0.5).item(), residual(one, 4 * one, scale=0.5, mode="lerp").item()
        (3.0, 2.5)
    """
    return x + scale * c if mode == "add" else scale * c + (1 - scale) * x


def token_mask(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """Mark the tokens of each text: all up to the first end-of-text token, and that token.

    CLIP's tokenizers pad with the end-of-text token or with ``!``, T5's with 0; in all of them the text ends with its
    first end token. A row without one is all text.

    Args:
        input_ids: ``(B, N)``.
        eos_token_id: The end-of-text token.

    Returns:
        ``(B, N)`` bool, True on tokens of the text.

    Example:
        >>> import torch
        >>> token_mask(torch.tensor([[5, 1, 9, 9], [5, 6, 7, 1]]), 9)
        tensor([[ True,  True,  True, False],
                [ True,  True,  True,  True]])
    """
    ends = (input_ids == eos_token_id).long()
    return ends.cumsum(-1) - ends == 0


def _self_attention(projected: Tensor, num_heads: int, mixing: Mixing, mask: Tensor | None, dropout: float) -> Tensor:
    if mixing == "batch":
        projected = projected.transpose(0, 1)
    rows, length, width = projected.shape
    heads = projected.reshape(rows, length, 3, num_heads, width // (3 * num_heads))
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=_keys(mask), dropout_p=dropout)
    mixed = mixed.transpose(1, 2).reshape(rows, length, width // 3)
    return mixed.transpose(0, 1) if mixing == "batch" else mixed


def _keys(mask: Tensor | None) -> Tensor | None:
    """Broadcast a mask over heads and queries; a row that is all padding, which has no softmax, looks everywhere."""
    if mask is None:
        return None
    return (mask | ~mask.any(-1, keepdim=True))[:, None, None, :]


def _norm(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    weight = weights[f"{name}.weight"]
    return F.layer_norm(x, weight.shape, weight, weights[f"{name}.bias"])
