"""From the tokens of one utterance to a vector: a bag of embeddings, or a recurrent net over the tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BagEncoder(nn.Module):
    """Mean and maximum of the token embeddings: `(N, S)` ids, 0 = padding, to `(N, 2 E)`.

    Args:
        vocab_size: Number of ids, the padding included.
        embedding_size: Width E.
        token_dropout: Share of the tokens left out in training.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        *,
        token_dropout: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.output_size = 2 * embedding_size
        self.token_dropout = token_dropout
        self.weight = nn.Parameter(torch.empty(vocab_size, embedding_size, device=device, dtype=dtype))
        nn.init.normal_(self.weight, std=0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode; a row without tokens gives zeros."""
        if len(tokens) == 1 and not self.training:  # a stream's turn: the same in fewer operations
            found = F.embedding(tokens[0, : int(tokens.count_nonzero())], self.weight)
            if len(found):
                return torch.cat([found.mean(0), found.amax(0)]).unsqueeze(0)
        present = tokens > 0
        if self.training and self.token_dropout:
            present &= torch.rand_like(tokens, dtype=torch.float) >= self.token_dropout
        ids = tokens[present]
        counts = present.sum(1)
        offsets = counts.cumsum(0) - counts
        mean = F.embedding_bag(ids, self.weight, offsets, mode="mean")
        largest = F.embedding_bag(ids, self.weight, offsets, mode="max")
        return torch.cat([mean, largest], 1)


class TokenEncoder(nn.Module):
    """Bidirectional GRU or LSTM over the tokens, attended and final states: `(N, S)` ids to `(N, 4 H)`.

    v = tanh(W x + b), weights = softmax over the tokens of v u. The padding takes no part, unless `legacy` is set: the
    authors' softmax runs over the padding too.

    Args:
        vocab_size: Number of ids, the padding included.
        embedding_size: Width of the embedding.
        size: Width H of each direction.
        cell: `"gru"` or `"lstm"`.
        dropout: Of the embeddings and of the outputs.
        attention_size: Width of v.
        legacy: Let the padding take part in the attention.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        size: int,
        *,
        cell: str = "gru",
        dropout: float = 0.0,
        attention_size: int = 64,
        legacy: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.output_size = 4 * size
        self.legacy = legacy
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=0, device=device, dtype=dtype)
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.rnn = kind(embedding_size, size, batch_first=True, bidirectional=True, device=device, dtype=dtype)
        self.project = nn.Linear(2 * size, attention_size, device=device, dtype=dtype)
        self.score = nn.Linear(attention_size, 1, bias=False, device=device, dtype=dtype)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode; a row without tokens is read as one token of padding."""
        lengths = (tokens > 0).sum(1).clamp(min=1)
        width = tokens.shape[1] if self.legacy else int(lengths.max()) if len(lengths) else 1
        order = lengths.argsort(descending=True)
        packed = pack_padded_sequence(
            self.dropout(self.embedding(tokens[order, :width])), lengths[order].cpu(), batch_first=True
        )
        states, final = self.rnn(packed)
        last = final[0] if isinstance(final, tuple) else final
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=width)
        states = self.dropout(states)
        scores = self.score(torch.tanh(self.project(states))).squeeze(2)
        if not self.legacy:
            beyond = torch.arange(width, device=tokens.device) >= lengths[order, None]
            scores = scores.masked_fill(beyond, float("-inf"))
        attended = (scores.softmax(1).unsqueeze(2) * states).sum(1)
        encoded = torch.cat([attended, last[0], last[1]], 1)
        return encoded[order.argsort()]
