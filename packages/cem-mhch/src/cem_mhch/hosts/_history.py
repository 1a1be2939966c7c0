"""Attention to earlier turns, in the same code for whole dialogues and for one more turn of a stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._base import State


class History:
    """What layers of a host remember: all turns of a batch, or those of a stream so far.

    Args:
        state: The past of a stream, `(B, t, ...)` by name; None reads whole dialogues, which have no past.
    """

    def __init__(self, state: State | None = None) -> None:
        self._past = state
        self.state: State = {}

    def extend(self, name: str, new: Tensor) -> Tensor:
        """Give the past of `name` with the new turns `(B, T, ...)` behind it, and remember it."""
        if self._past is not None:
            new = torch.cat([self._past[name], new], 1)
            self.state[name] = new
        return new

    def flags(self, name: str, new: Tensor) -> Tensor:
        """The same for `(B, T)`; the state keeps them as `(B, t, 1)`, like everything else."""
        return self.extend(name, new.unsqueeze(2)).squeeze(2)

    def recur(self, name: str, rnn: nn.LSTM, x: Tensor) -> Tensor:
        """Run an LSTM over the new turns `(B, T, d)`, on from where the stream stands."""
        if self._past is None:
            return rnn(x)[0]  # type: ignore[no-any-return]
        past = (self._past[f"{name}.h"].unsqueeze(0), self._past[f"{name}.c"].unsqueeze(0))
        out, (hidden, cell) = rnn(x, past)
        self.state |= {f"{name}.h": hidden[0], f"{name}.c": cell[0]}
        return out  # type: ignore[no-any-return]


def earlier(queries: int, keys: int, *, strict: bool = False, device: torch.device | None = None) -> Tensor:
    """Which keys a query may see: `(Q, K)`, the queries being the last Q of the K turns; `strict` leaves itself out."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries - int(strict))


def attend(scores: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    """Softmax over the allowed keys, times value; zeros for a query that may see none.

    Args:
        scores: `(..., Q, K)`.
        value: `(..., K, d)`.
        allowed: `(..., Q, K)` bool.
    """
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return torch.where(allowed.any(-1, keepdim=True), weights, 0.0) @ value


class Match(nn.Module):
    """How a turn resembles the earlier ones, at a width that does not grow with the dialogue.

    s_tj = x_t x_j / sqrt(d), j < t; features: sum_j softmax_j(s_tj) x_j, max_j tanh(s_tj), mean_j tanh(s_tj), and
    tanh(s_tj) of the last three turns. The first turn has zeros. The authors append the whole row of s instead, which
    fixes the number of turns.

    Args:
        size: Width d; the features have width d + 5.
    """

    last = 3

    def __init__(self, size: int) -> None:
        super().__init__()
        self.output_size = size + 2 + self.last

    def forward(self, x: Tensor, history: History, real: Tensor) -> Tensor:
        """Match the turns `(B, T, d)` with those before them; `real` `(B, K)` marks the turns that are no padding."""
        keys = history.extend("match", x)
        queries, count = x.shape[1], keys.shape[1]
        allowed = earlier(queries, count, strict=True, device=x.device) & real.unsqueeze(1)
        scores = x @ keys.transpose(1, 2) / x.shape[2] ** 0.5
        pooled = attend(scores, keys, allowed)
        near = torch.where(allowed, torch.tanh(scores), 0.0)
        mean = near.sum(2) / allowed.sum(2).clamp(min=1)
        largest = torch.where(allowed, near, -1.0).amax(2) * allowed.any(2)
        own = torch.arange(count - queries, count, device=x.device)
        back = own.unsqueeze(1) - torch.arange(1, self.last + 1, device=x.device)
        recent = near.gather(2, back.clamp(min=0).expand(len(x), -1, -1)) * (back >= 0)
        return torch.cat([pooled, largest.unsqueeze(2), mean.unsqueeze(2), recent], 2)
