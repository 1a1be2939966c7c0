"""A small text encoder of CLIP's build: words, positions, a causal transformer with norms before, a norm at the end."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

LENGTH = 20
_START, _END = 1, 2  # 0 pads


class Tokenizer:
    """Words and commas to ids; unknown words are an error, for the world is closed."""

    def __init__(self, words: Sequence[str]) -> None:
        self._ids = {word: at for at, word in enumerate(words, start=3)}

    def __len__(self) -> int:
        return len(self._ids) + 3

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Give ids of shape (B, LENGTH)."""
        rows = torch.zeros(len(texts), LENGTH, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [_START, *(self._ids[word] for word in re.findall(r"[a-z0-9]+|,", text)), _END]
            if len(ids) > LENGTH:
                raise ValueError(f"{text!r} has {len(ids)} tokens; the toy encoder reads {LENGTH}")
            row[: len(ids)] = torch.tensor(ids)
        return rows


class TextEncoder(nn.Module):
    """Ids (B, N) to states (B, N, width)."""

    def __init__(self, vocabulary: int, *, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        self.register_buffer("causal", mask, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Encode; every token sees itself and those before it, and padding is read like any token, as in CLIP."""
        states: Tensor = self.layers(self.tokens(ids) + self.positions, mask=self.causal, is_causal=True)
        return self.norm(states)  # type: ignore[no-any-return]
