"""DAMI in a causal form: difficulty-assisted encoding, matching with earlier turns, LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ._base import HandoffModel, HostOutput, State
from ._encoders import TokenEncoder
from ._history import History, Match

if TYPE_CHECKING:
    from cem_mhch._batch import Batch


class DAMILite(HandoffModel):
    """Attentive BiLSTM over the tokens, role and length as signs of difficulty, matching, a causal LSTM.

    x_t = relu(W [encode(u_t); role_t; log length_t]), z_t = [x_t; match(x_t, x_<t)], hidden_t = [LSTM(z)_t; x_t]

    Differences from the paper: no part of speech, term frequency and lexicon polarity, which need tools for one
    language; the match features have a fixed width and see earlier turns only.

    Args:
        vocab_size: Number of token ids, padding and unknown included.
        embedding_size: Width of a token's embedding.
        size: Width of x and of the LSTM; `hidden_size` is twice that.
        dropout: Dropout.

    Example:
        >>> DAMILite(vocab_size=100, size=16).hidden_size
        32

    The paper: J. Liu et al., *Time to Transfer: Predicting and Evaluating Machine-Human Chatting Handoff*, AAAI 2021,
    arXiv 2012.07610.
    """

    name = "dami_lite"

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_size: int = 200,
        size: int = 128,
        dropout: float = 0.3,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.options = {"vocab_size": vocab_size, "embedding_size": embedding_size, "size": size, "dropout": dropout}
        self.hidden_size = 2 * size
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.encoder = TokenEncoder(
            vocab_size, embedding_size, max(1, size // 2), cell="lstm", dropout=dropout, **place
        )
        self.project = nn.Linear(self.encoder.output_size + 3, size, **place)
        self.match = Match(size)
        self.lstm = nn.LSTM(size + self.match.output_size, size, batch_first=True, **place)
        self.head = nn.Sequential(
            nn.Linear(2 * size, size, **place), nn.ReLU(), nn.Dropout(dropout), nn.Linear(size, 2, **place)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> HostOutput:
        """Score all turns of a batch."""
        return self._run(batch, History())

    def initial_state(self, batch_size: int = 1) -> State:
        """No turns, and the LSTM's zeros."""
        size = self.project.out_features
        zeros = self.project.weight.new_zeros
        return {
            "real": zeros(batch_size, 0, 1, dtype=torch.bool),
            "match": zeros(batch_size, 0, size),
            "lstm.h": zeros(batch_size, size),
            "lstm.c": zeros(batch_size, size),
        }

    def step(self, turn: Batch, state: State) -> tuple[HostOutput, State]:
        """Score one more turn of each dialogue."""
        history = History(state)
        return self._run(turn, history), history.state

    def _run(self, batch: Batch, history: History) -> HostOutput:
        real = batch.mask
        tokens, role = batch.tokens[real], batch.role[real]
        encoded = self.encoder(tokens)
        length = (tokens > 0).sum(1).log1p() / 4
        difficulty = torch.stack([role == 0, role != 0, length], 1).to(encoded.dtype)
        turns = self.dropout(self.project(torch.cat([encoded, difficulty], 1)).relu())
        x = turns.new_zeros(*real.shape, turns.shape[1])
        x[real] = turns
        z = torch.cat([x, self.match(x, history, history.flags("real", real))], 2)
        hidden = self.dropout(torch.cat([history.recur("lstm", self.lstm, z), x], 2))
        return HostOutput(self.head(hidden), hidden)
