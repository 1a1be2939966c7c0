"""The light hosts: an utterance encoder under a causal GRU over the turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._base import HandoffModel, HostOutput, State
from ._cell import gru_step
from ._encoders import BagEncoder, TokenEncoder

if TYPE_CHECKING:
    from cem_mhch._batch import Batch


class DialogueGRU(HandoffModel):
    """Utterance encoder, causal GRU over the turns, handoff head.

    x_t = relu(W encode(u_t) + b_role(t)), g_t = GRU(g_{t-1}, x_t), hidden_t = [g_t; x_t],
    logits_t = W_2 relu(W_1 hidden_t)

    Args:
        encoder: Maps token ids `(N, S)` to `(N, encoder.output_size)`.
        size: Width of x and of g.
        dropout: Of x, of the hidden state and inside the head.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        size: int,
        dropout: float,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.hidden_size = 2 * size
        self.encoder = encoder
        width: int = encoder.output_size  # type: ignore[assignment]
        self.project = nn.Linear(width, size, bias=False, device=device, dtype=dtype)
        self.role = nn.Parameter(torch.zeros(2, size, device=device, dtype=dtype))
        self.gru = nn.GRU(size, size, batch_first=True, device=device, dtype=dtype)
        self.head = nn.Sequential(
            nn.Linear(2 * size, size, device=device, dtype=dtype),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(size, 2, device=device, dtype=dtype),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> HostOutput:
        """Score all turns of a batch."""
        real = batch.mask
        x = self._utterances(batch.tokens[real], batch.role[real])
        filled = x.new_zeros(*real.shape, x.shape[1])
        filled[real] = x
        return self._heads(self.gru(filled)[0], filled)

    def initial_state(self, batch_size: int = 1) -> State:
        """The GRU's zeros."""
        weight = self.project.weight
        return {"gru": weight.new_zeros(batch_size, weight.shape[0])}

    def step(self, turn: Batch, state: State) -> tuple[HostOutput, State]:
        """Score one more turn of each dialogue."""
        x = self._utterances(turn.tokens[:, 0], turn.role[:, 0])
        hidden = gru_step(self.gru, x, state["gru"])
        return self._heads(hidden.unsqueeze(1), x.unsqueeze(1)), {"gru": hidden}

    def _utterances(self, tokens: Tensor, role: Tensor) -> Tensor:
        x = (F.linear(self.encoder(tokens), self.project.weight) + F.embedding(role, self.role)).relu_()
        return self.dropout(x) if self.training else x

    def _heads(self, states: Tensor, x: Tensor) -> HostOutput:
        hidden = torch.cat([states, x], 2)
        if self.training:
            hidden = self.dropout(hidden)
        return HostOutput(self.head(hidden), hidden)


class HGRU(DialogueGRU):
    """The light host: a bag of embeddings (or a BiGRU over the tokens) under a causal GRU over the turns.

    Args:
        vocab_size: Number of token ids, padding and unknown included.
        encoder: `"bag"`, mean and maximum of the embeddings, or `"bigru"`, which reads the tokens in order and is about
            ten times slower.
        embedding_size: Width of a token's embedding.
        size: Width of the GRU; `hidden_size` is twice that.
        dropout: Dropout everywhere but on tokens.
        token_dropout: Share of the tokens that the bag leaves out in training.

    Raises:
        ValueError: The encoder is none of the two, or a size is below 1.

    Example:
        >>> HGRU(vocab_size=1000, size=32).hidden_size
        64
    """

    name = "hgru"

    def __init__(
        self,
        *,
        vocab_size: int,
        encoder: Literal["bag", "bigru"] = "bag",
        embedding_size: int = 64,
        size: int = 64,
        dropout: float = 0.5,
        token_dropout: float = 0.3,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if encoder not in ("bag", "bigru"):
            raise ValueError(f"encoder is {encoder!r}; it must be 'bag' or 'bigru'")
        options: dict[str, Any] = {"vocab_size": vocab_size, "embedding_size": embedding_size, "size": size}
        for option, value in options.items():
            if value < 1:
                raise ValueError(f"{option} is {value}: give at least 1")
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        reader: nn.Module = (
            BagEncoder(vocab_size, embedding_size, token_dropout=token_dropout, **place)
            if encoder == "bag"
            else TokenEncoder(vocab_size, embedding_size, max(1, size // 2), dropout=dropout, **place)
        )
        super().__init__(reader, size=size, dropout=dropout, **place)
        self.options = options | {"encoder": encoder, "dropout": dropout, "token_dropout": token_dropout}
