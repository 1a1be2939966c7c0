"""One dialogue, turn by turn, as it happens."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from cem_mhch._batch import ROLE_IDS, Batch
from cem_mhch._types import ALIASES, ROLES
from cem_mhch._vocab import UNKNOWN, Encoder

from ._rules import Rules
from ._state import from_json, to_json

if TYPE_CHECKING:
    from cem_mhch._cem import CEM

_FORMAT = 1
_NO_LABEL = torch.full((1, 1), -1)
_NO_SATISFACTION = torch.full((1,), -1)
_REAL = torch.ones(1, 1, dtype=torch.bool)
_ROLES = {name: torch.tensor([[number]]) for name, number in ROLE_IDS.items()}


class TooLong(ValueError):
    """A turn or a dialogue is longer than the scorer allows."""


class Decision(NamedTuple):
    """What to do after a turn.

    Attributes:
        handoff: Whether to hand over to a person now.
        prob: The model's probability that the turn is one to hand over at.
        user_state: Probabilities that the user's last turn is negative, neutral, positive.
        expected_cost: The predicted cost under that probability, in the unit of the cost model.
        reason: `explicit_request`, `repeated_fallback`, `negative_state` (the score, and the user is more likely
            negative than not), `score`, or None without a handoff.
        latency_ms: How long the decision took.
    """

    handoff: bool
    prob: float
    user_state: tuple[float, float, float]
    expected_cost: float
    reason: str | None
    latency_ms: float


class StreamingScorer:
    """Score a dialogue turn by turn; each push costs one utterance, and equals the batch pass to 1e-5.

    A score of at least `threshold` on `patience` turns in a row hands over; the rules do so at once. After a handoff
    the next `cooldown` turns never hand over, while they are scored.

    Args:
        model: A trained model in mode `"causal"`; it is put into eval mode.
        vocab: Turns text into ids; not needed for pushes of ids.
        threshold: In [0, 1].
        patience: Turns in a row that must reach the threshold, at least 1.
        cooldown: Turns after a handoff without another, at least 0.
        rules: Hard rules; None has none.
        max_chars: Longest text, in characters; longer ones are refused.
        max_turns: Longest dialogue; None has no limit.

    Raises:
        ValueError: An option is outside its range, or the model cannot stream.

    Example:
        >>> from cem_mhch import CEM, HandoffModel, StreamingScorer
        >>> scorer = StreamingScorer(CEM(HandoffModel.build("hgru", vocab_size=50)), threshold=1.0)
        >>> scorer.push("user", [5, 6]).handoff
        False
    """

    def __init__(
        self,
        model: CEM,
        *,
        vocab: Encoder | None = None,
        threshold: float = 0.5,
        patience: int = 1,
        cooldown: int = 0,
        rules: Rules | None = None,
        max_chars: int = 10_000,
        max_turns: int | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it must lie in [0, 1]")
        for name, value, least in (("patience", patience, 1), ("cooldown", cooldown, 0), ("max_chars", max_chars, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; give at least {least}")
        self.model = model.eval()
        self.vocab, self.threshold, self.patience, self.cooldown = vocab, threshold, patience, cooldown
        self.rules, self.max_chars, self.max_turns = rules, max_chars, max_turns
        self._size = getattr(model.host, "options", {}).get("vocab_size")
        self._device = next(model.parameters()).device
        self.reset()

    def reset(self) -> None:
        """Forget the dialogue."""
        self.turns = 0
        self._alarms = self._quiet = self._fallbacks = 0
        with torch.inference_mode():
            self._state = self.model.initial_state()

    def push(self, role: str, turn: str | Sequence[int]) -> Decision:
        """Score one more turn.

        Args:
            role: `user` or `bot`, or an alias of it.
            turn: Its text, or its ids.

        Raises:
            TooLong: The text, or the dialogue with this turn, is longer than allowed; nothing has changed.
            ValueError: Another role, ids outside the vocabulary, or text without a vocabulary; nothing has changed.
        """
        start = time.perf_counter()
        role = ALIASES.get(role, role)
        ids = self._ids(role, turn)
        with torch.inference_mode():
            batch = Batch(
                tokens=torch.tensor([[ids]]),
                mask=_REAL,
                role=_ROLES[role],
                handoff=_NO_LABEL,
                sentiment=_NO_LABEL,
                satisfaction=_NO_SATISFACTION,
            )
            if self._device.type != "cpu":
                batch = batch.to(self._device)
            out, self._state = self.model.step(batch, self._state)
            read = torch.cat([out.probs.reshape(-1), out.cost.reshape(-1), out.sentiment_logits.reshape(-1)])
        stay, prob, cost_stay, cost_go, *logits = read.tolist()  # one transfer, for each costs as much as a layer
        top = max(logits)
        powers = [math.exp(logit - top) for logit in logits]
        negative, neutral, positive = (power / sum(powers) for power in powers)
        handoff, reason = self._decide(role, turn, prob, negative)
        self.turns += 1
        return Decision(
            handoff,
            prob,
            (negative, neutral, positive),
            stay * cost_stay + prob * cost_go,
            reason,
            (time.perf_counter() - start) * 1e3,
        )

    def state_dict(self) -> dict[str, Any]:
        """The dialogue so far as JSON values, for a server that keeps nothing itself."""
        counts = {"turns": self.turns, "alarms": self._alarms, "quiet": self._quiet, "fallbacks": self._fallbacks}
        return {"format": _FORMAT, "counts": counts, "model": to_json(self._state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: It is not the state of such a model; nothing has changed.
        """
        if not isinstance(state, dict) or state.get("format") != _FORMAT or not isinstance(state.get("counts"), dict):
            raise ValueError("this is not a state that StreamingScorer.state_dict gave")
        counts = [state["counts"].get(name) for name in ("turns", "alarms", "quiet", "fallbacks")]
        if not all(type(one) is int and one >= 0 for one in counts):
            raise ValueError(f"the counts of the saved state are {counts}; expected four integers >= 0")
        with torch.inference_mode():
            self._state = from_json(state.get("model"), self.model.initial_state())
        self.turns, self._alarms, self._quiet, self._fallbacks = counts

    def _ids(self, role: str, turn: str | Sequence[int]) -> list[int]:
        if role not in ROLE_IDS:
            wanted = "a human has taken over, so end the session" if role in ROLES else "expected user or bot"
            raise ValueError(f"turn {self.turns}: role is {role!r}; {wanted}")
        if self.max_turns is not None and self.turns >= self.max_turns:
            raise TooLong(f"turn {self.turns}: the dialogue has reached its limit of {self.max_turns} turns")
        if len(turn) > self.max_chars:
            unit = "characters" if isinstance(turn, str) else "tokens"
            raise TooLong(f"turn {self.turns}: {len(turn)} {unit}, at most {self.max_chars} are allowed")
        if isinstance(turn, str):
            if self.vocab is None:
                raise ValueError(
                    f"turn {self.turns}: it is a text and there is no vocabulary; give `vocab`, or push ids"
                )
            return self.vocab.encode(turn)
        ids = list(turn)
        for token in ids:
            if type(token) is not int or token < 1 or (self._size is not None and token >= self._size):
                raise ValueError(
                    f"turn {self.turns}: token id {token!r} is outside the vocabulary, 1 to "
                    f"{'...' if self._size is None else self._size - 1}"
                )
        return ids or [UNKNOWN]

    def _decide(self, role: str, turn: str | Sequence[int], prob: float, negative: float) -> tuple[bool, str | None]:
        self._alarms = self._alarms + 1 if prob >= self.threshold else 0
        reason = None
        if self._alarms >= self.patience:
            reason = "negative_state" if negative >= 0.5 else "score"
        rules = self.rules
        if rules is not None and isinstance(turn, str):
            if role == "bot":
                self._fallbacks = self._fallbacks + 1 if rules.falls_back(turn) else 0
                if 0 < rules.max_fallbacks <= self._fallbacks:
                    reason = "repeated_fallback"
            elif rules.asks(turn):
                reason = "explicit_request"
        if self._quiet:
            self._quiet -= 1
            return False, None
        if reason is not None:
            self._quiet, self._alarms, self._fallbacks = self.cooldown, 0, 0
        return reason is not None, reason
