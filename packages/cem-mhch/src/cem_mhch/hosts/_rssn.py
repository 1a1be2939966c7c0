"""RSSN: handoff and sentiment towers that attend to each other, causal or with the masks as released."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cem_mhch.functional import paper_code_attention

from ._base import HandoffModel, HostOutput, State
from ._encoders import TokenEncoder
from ._history import History, Match, attend, earlier

if TYPE_CHECKING:
    from cem_mhch._batch import Batch


class RSSN(HandoffModel):
    """BiLSTM utterances, matching, a handoff and a sentiment tower with mutual attention, a 4-head block, an LSTM.

    M = relu(W_m [x; match]), S = relu(W_s [x; match]);
    handoff tower: H = LSTM(relu(W [attend(M, S, S); M]));
    sentiment tower: E = block(LN(S + attend(S, M, M))); block: attention and feed-forward, each with residual and LN

    The masks here are causal: a turn attends to real user turns (M to S) or real turns (S to M) up to itself, and the
    weight of a turn j in the second decays with its distance by a learned slope. With `legacy_masks` the graph is the
    authors': rows of queries are masked where columns of keys were meant, turns attend to later ones and to padding,
    positions are weighted by a softmax over all `max_turns` slots, and the match features are the rows of x x^T.

    Args:
        vocab_size: Number of token ids, padding and unknown included.
        embedding_size: Width of a token's embedding.
        size: Width of the LSTMs; the towers have twice, `hidden_size` three times that. A multiple of 2.
        dropout: Dropout.
        legacy_masks: Reproduce the released graph. It cannot stream.
        max_turns: Turns that the legacy graph has room for; the causal one has no limit and no use for it.

    Raises:
        ValueError: In `forward`, a longer dialogue than a legacy graph takes.

    Example:
        >>> RSSN(vocab_size=100, size=16).hidden_size
        48

    The paper: J. Liu et al., *A Role-Selected Sharing Network for Joint Machine-Human Chatting Handoff and Service
    Satisfaction Analysis*, EMNLP 2021, arXiv 2109.08412.
    """

    name = "rssn"
    heads = 4

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_size: int = 200,
        size: int = 128,
        dropout: float = 0.35,
        legacy_masks: bool = False,
        max_turns: int = 50,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if size % 2:
            raise ValueError(f"size is {size}: the {self.heads} heads of width size / 2 need an even number")
        super().__init__()
        self.options = {
            "vocab_size": vocab_size,
            "embedding_size": embedding_size,
            "size": size,
            "dropout": dropout,
            "legacy_masks": legacy_masks,
            "max_turns": max_turns,
        }
        self.hidden_size = 3 * size
        self.legacy_masks = legacy_masks
        self.max_turns = max_turns
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        tower = 2 * size
        self.encoder = TokenEncoder(
            vocab_size, embedding_size, size, cell="lstm", dropout=dropout, legacy=legacy_masks, **place
        )
        self.match = Match(self.encoder.output_size)
        width = self.encoder.output_size + (max_turns if legacy_masks else self.match.output_size)
        self.to_handoff = nn.Linear(width, tower, **place)
        self.to_sentiment = nn.Linear(width, tower, **place)
        self.merge = nn.Linear(2 * tower, tower, **place)
        if not legacy_masks:
            self.slope = nn.Parameter(torch.tensor(-2.0, **place))
        self.norm = nn.LayerNorm(tower, eps=1e-8, **place)
        self.attention = nn.Linear(tower, 3 * tower, **place)
        self.attention_norm = nn.LayerNorm(tower, eps=1e-8, **place)
        self.feed = nn.Sequential(nn.Linear(tower, 2 * tower, **place), nn.ReLU(), nn.Linear(2 * tower, tower, **place))
        self.feed_norm = nn.LayerNorm(tower, eps=1e-8, **place)
        self.sentiment = nn.Linear(tower, 3, **place)
        self.lstm = nn.LSTM(tower, size, batch_first=True, **place)
        self.head = nn.Linear(size, 2, **place)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> HostOutput:
        """Score all turns of a batch."""
        if self.legacy_masks:
            return self._legacy(batch)
        return self._causal(batch, History())

    def initial_state(self, batch_size: int = 1) -> State:
        """No turns, and the LSTM's zeros.

        Raises:
            ValueError: The masks are the legacy ones, which look at later turns.
        """
        if self.legacy_masks:
            raise ValueError("with legacy_masks a turn attends to later ones, so it cannot stream; build it without")
        zeros = self.head.weight.new_zeros
        tower, size = self.merge.out_features, self.head.in_features
        widths = {"match": self.encoder.output_size, "handoff": tower, "sentiment": tower, "block": 2 * tower}
        state = {name: zeros(batch_size, 0, width) for name, width in widths.items()}
        flags = {name: zeros(batch_size, 0, 1, dtype=torch.bool) for name in ("real", "user")}
        return state | flags | {"lstm.h": zeros(batch_size, size), "lstm.c": zeros(batch_size, size)}

    def step(self, turn: Batch, state: State) -> tuple[HostOutput, State]:
        """Score one more turn of each dialogue."""
        history = History(state)
        return self._causal(turn, history), history.state

    def _causal(self, batch: Batch, history: History) -> HostOutput:
        real = history.flags("real", batch.mask)
        user = history.flags("user", batch.mask & (batch.role == 0))
        encoded = self.dropout(self.encoder(batch.tokens[batch.mask]))
        x = encoded.new_zeros(*batch.mask.shape, encoded.shape[1])
        x[batch.mask] = encoded
        handoff, sentiment = self._towers(torch.cat([x, self.match(x, history, real)], 2))
        handoffs, sentiments = history.extend("handoff", handoff), history.extend("sentiment", sentiment)
        queries, keys = x.shape[1], real.shape[1]
        causal = earlier(queries, keys, device=x.device)
        scale = handoff.shape[2] ** -0.5
        seen = attend(handoff @ sentiments.transpose(1, 2) * scale, sentiments, causal & user.unsqueeze(1))
        turns = torch.arange(keys, device=x.device)
        decay = F.softplus(self.slope) * (turns[keys - queries :, None] - turns)
        scores = sentiment @ handoffs.transpose(1, 2) * scale - decay
        mixed = self.norm(sentiment + attend(scores, handoffs, causal & real.unsqueeze(1)))
        block = self._block(mixed, history, causal & real.unsqueeze(1))
        return self._heads(history.recur("lstm", self.lstm, self._merged(seen, handoff)), block)

    def _legacy(self, batch: Batch) -> HostOutput:
        count, turns = batch.mask.shape
        if turns > self.max_turns:
            raise ValueError(
                f"a dialogue of {turns} turns came; the legacy graph has room for {self.max_turns}: cut it"
            )
        more = self.max_turns - turns
        tokens = F.pad(batch.tokens, (0, 0, 0, more))
        rows = F.pad(batch.mask & (batch.role == 0), (0, more))
        real = F.pad(batch.mask, (0, more))
        x = self.dropout(self.encoder(tokens.flatten(0, 1)).unflatten(0, (count, self.max_turns)))
        handoff, sentiment = self._towers(torch.cat([x, (x @ x.transpose(1, 2)).tril(-1)], 2))
        seen = paper_code_attention(handoff, sentiment, sentiment, rows)
        position = torch.arange(self.max_turns, device=x.device, dtype=x.dtype).softmax(0).unsqueeze(1)
        mixed = self.norm(sentiment + paper_code_attention(position * sentiment, handoff, handoff, real))
        causal = earlier(self.max_turns, self.max_turns, device=x.device)
        block = self._block(mixed, History(), causal.expand(count, -1, -1))
        states = self.lstm(self._merged(seen, handoff))[0]
        return self._heads(states[:, :turns], block[:, :turns])

    def _towers(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.dropout(self.to_handoff(features).relu()), self.dropout(self.to_sentiment(features).relu())

    def _merged(self, seen: Tensor, handoff: Tensor) -> Tensor:
        return self.merge(torch.cat([seen, handoff], 2)).relu()  # type: ignore[no-any-return]

    def _block(self, x: Tensor, history: History, allowed: Tensor) -> Tensor:
        """Multi-head attention without output projection, and feed-forward."""
        query, both = self.attention(x).split([x.shape[2], 2 * x.shape[2]], 2)
        key, value = history.extend("block", both).chunk(2, 2)
        query, key, value = (one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in (query, key, value))
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        mixed = attend(scores, value, allowed.unsqueeze(1)).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.dropout(mixed))
        return self.feed_norm(x + self.feed(x))  # type: ignore[no-any-return]

    def _heads(self, states: Tensor, block: Tensor) -> HostOutput:
        states = self.dropout(states)
        return HostOutput(self.head(states), torch.cat([states, block], 2), self.sentiment(block))
