"""What is known of the user so far: a recurrent state over user turns, their sentiment, the running satisfaction."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .functional import negative_log_odds
from .hosts._base import State
from .hosts._cell import gru_step


class UserState(NamedTuple):
    """The user, at each turn of a dialogue; a turn that is not the user's carries the last user turn's values.

    Attributes:
        vector: `(B, T, d)`, zeros before the first user turn.
        sentiment_logits: `(B, T, 3)`, negative, neutral, positive; zeros before the first user turn.
        negative: `(B, T)`, log-odds of a negative sentiment; 0 before the first user turn.
        satisfaction: `(B, T, 3)`, log-probabilities of unsatisfied, met, well satisfied, as known at the turn.
        weights: `(B, T)`, log-weights of the turns in the satisfaction.
    """

    vector: Tensor
    sentiment_logits: Tensor
    negative: Tensor
    satisfaction: Tensor
    weights: Tensor


class UserStateHead(nn.Module):
    """Causal GRU over the user turns of a dialogue.

    u_t = GRU(u_{t-1}, hidden_t) on user turns, sentiment logits = W [u_t; hidden_t] + b (+ the host's own),
    satisfaction_t = sum_{j <= t} w_j softmax(sentiment_j), w = softmax over the user turns up to t of a bounded score.

    Args:
        hidden_size: Width of the host's hidden state.
        size: Width of the user state.
        dropout: Of the user state where the sentiment is read from it.
    """

    bound = 4.0  # of the log-weights, so that running sums neither overflow nor vanish

    def __init__(
        self,
        hidden_size: int,
        size: int,
        *,
        dropout: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.gru = nn.GRU(hidden_size, size, batch_first=True, device=device, dtype=dtype)
        self.read = nn.Linear(size + hidden_size, 4, device=device, dtype=dtype)  # three sentiments and the weight
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, user: Tensor, host_sentiment: Tensor | None = None) -> UserState:
        """Read whole dialogues.

        Args:
            hidden: `(B, T, d)`.
            user: `(B, T)` bool, the real turns that are the user's.
            host_sentiment: `(B, T, 3)` logits of the host, added to ours.
        """
        order = (~user).to(torch.int8).argsort(dim=1, stable=True)[:, : max(1, int(user.sum(1).max()))]
        states, _ = self.gru(_take(hidden, order))
        count = user.long().cumsum(1)
        vector = _take(states, (count - 1).clamp(0, states.shape[1] - 1))
        sentiment, weights = self._read(vector, hidden, host_sentiment)
        turns = torch.arange(user.shape[1], device=user.device).expand_as(user)
        last = torch.where(user, turns, -1).cummax(1).values
        known = (last >= 0).unsqueeze(2)
        sentiment = torch.where(known, _take(sentiment, last.clamp(min=0)), 0.0)
        total = torch.where(user.unsqueeze(2), (sentiment.log_softmax(2) + weights).exp(), 0.0).cumsum(1)
        return UserState(
            torch.where(known, vector, 0.0),
            sentiment,
            torch.where(known.squeeze(2), negative_log_odds(sentiment), 0.0),
            _mixture(total),
            weights.squeeze(2),
        )

    def initial_state(self, batch_size: int) -> State:
        """Nobody has said anything."""
        zeros = self.read.weight.new_zeros
        return {
            "vector": zeros(batch_size, self.gru.hidden_size),
            "sentiment": zeros(batch_size, 3),
            "negative": zeros(batch_size, 1),
            "total": zeros(batch_size, 3),
        }

    def step(
        self, hidden: Tensor, user: Tensor, state: State, host_sentiment: Tensor | None = None
    ) -> tuple[UserState, State]:
        """Read one more turn: `hidden` `(B, 1, d)`, `user` `(B, 1)`."""
        weights = state["negative"]
        if bool(user.any()):
            now = hidden[:, 0]
            vector = gru_step(self.gru, now, state["vector"])
            sentiment, weights = self._read(vector, now, None if host_sentiment is None else host_sentiment[:, 0])
            new = {
                "vector": vector,
                "sentiment": sentiment,
                "negative": negative_log_odds(sentiment).unsqueeze(1),
                "total": state["total"] + (sentiment.log_softmax(1) + weights).exp(),
            }
            if len(user) > 1 and not bool(user.all()):
                new = {name: torch.where(user, value, state[name]) for name, value in new.items()}
            state = new
        read = UserState(
            state["vector"].unsqueeze(1),
            state["sentiment"].unsqueeze(1),
            state["negative"],
            _mixture(state["total"]).unsqueeze(1),
            weights,
        )
        return read, state

    def _read(self, vector: Tensor, hidden: Tensor, host_sentiment: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sentiment logits `(..., 3)` and bounded log-weights `(..., 1)`."""
        if self.training:
            vector = self.dropout(vector)
        sentiment, weights = self.read(torch.cat([vector, hidden], -1)).split([3, 1], -1)
        if host_sentiment is not None:
            sentiment = sentiment + host_sentiment
        return sentiment, self.bound * torch.tanh(weights)


def _mixture(total: Tensor) -> Tensor:
    """Logarithm of the running mixture; uniform while there is no user turn, for every weight is above e^-4."""
    return (total + 1e-9).log().log_softmax(-1)


def _take(values: Tensor, index: Tensor) -> Tensor:
    """`values[b, index[b, t]]` for `(B, T, d)` values and `(B, T')` indices."""
    return values.gather(1, index.unsqueeze(2).expand(-1, -1, values.shape[2]))
