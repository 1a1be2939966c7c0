"""What is known of the user so far: a recurrent state over user turns, their sentiment, the running satisfaction."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .hosts._base import State


class UserState(NamedTuple):
    """The user, at each turn of a dialogue; a turn that is not the user's carries the last user turn's values.

    Attributes:
        vector: `(B, T, d)`, zeros before the first user turn.
        sentiment_logits: `(B, T, 3)`, negative, neutral, positive; zeros before the first user turn.
        satisfaction: `(B, T, 3)`, log-probabilities of unsatisfied, met, well satisfied, as known at the turn.
        weights: `(B, T)`, unnormalised log-weights of the turns in the satisfaction.
        known: `(B, T)` bool, whether a user turn came already.
    """

    vector: Tensor
    sentiment_logits: Tensor
    satisfaction: Tensor
    weights: Tensor
    known: Tensor


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
        scores = self._scores(vector, hidden, host_sentiment)
        turns = torch.arange(user.shape[1], device=user.device).expand_as(user)
        last = torch.where(user, turns, -1).cummax(1).values
        known = last >= 0
        here = known.unsqueeze(2)
        scores = torch.where(here, _take(scores, last.clamp(min=0)), 0.0)
        weight = torch.where(user, scores[..., 3], float("-inf")).exp().unsqueeze(2)
        total = (weight * scores[..., :3].softmax(2)).cumsum(1)
        return UserState(
            torch.where(here, vector, 0.0),
            scores[..., :3],
            _normalised(total, weight.cumsum(1)),
            scores[..., 3],
            known,
        )

    def initial_state(self, batch_size: int) -> State:
        """Nobody has said anything."""
        zeros = self.read.weight.new_zeros
        return {
            "vector": zeros(batch_size, self.gru.hidden_size),
            "scores": zeros(batch_size, 4),
            "total": zeros(batch_size, 3),
            "weight": zeros(batch_size, 1),
        }

    def step(
        self, hidden: Tensor, user: Tensor, state: State, host_sentiment: Tensor | None = None
    ) -> tuple[UserState, State]:
        """Read one more turn: `hidden` `(B, 1, d)`, `user` `(B, 1)`."""
        if bool(user.any()):
            cell, now = self.gru, hidden[:, 0]
            vector = torch.gru_cell(
                now, state["vector"], cell.weight_ih_l0, cell.weight_hh_l0, cell.bias_ih_l0, cell.bias_hh_l0
            )
            scores = self._scores(vector, now, None if host_sentiment is None else host_sentiment[:, 0])
            weight = scores[:, 3:].exp()
            new = {
                "vector": vector,
                "scores": scores,
                "total": state["total"] + weight * scores[:, :3].softmax(1),
                "weight": state["weight"] + weight,
            }
            state = new if bool(user.all()) else {name: torch.where(user, new[name], state[name]) for name in new}
        scores = state["scores"]
        satisfaction = _normalised(state["total"], state["weight"])
        return (
            UserState(
                state["vector"].unsqueeze(1),
                scores[:, None, :3],
                satisfaction.unsqueeze(1),
                scores[:, None, 3],
                state["weight"] > 0,
            ),
            state,
        )

    def _scores(self, vector: Tensor, hidden: Tensor, host_sentiment: Tensor | None) -> Tensor:
        """Three sentiment logits and the bounded log-weight: `(..., 4)`."""
        found = self.read(torch.cat([self.dropout(vector), hidden], -1))
        sentiment = found[..., :3] if host_sentiment is None else found[..., :3] + host_sentiment
        return torch.cat([sentiment, self.bound * torch.tanh(found[..., 3:])], -1)


def _take(values: Tensor, index: Tensor) -> Tensor:
    """`values[b, index[b, t]]` for `(B, T, d)` values and `(B, T')` indices."""
    return values.gather(1, index.unsqueeze(2).expand(-1, -1, values.shape[2]))


def _normalised(total: Tensor, weight: Tensor) -> Tensor:
    """Logarithm of the running mixture; uniform while there is no user turn."""
    share = torch.where(weight > 0, total / weight.clamp(min=1e-12), 1 / 3)
    return share.clamp(min=1e-9).log()
