"""A dialogue and its turns, with the labels and the logged decisions that a turn may carry."""

import math
from collections.abc import Callable
from dataclasses import dataclass

ROLES = ("user", "bot", "human")
ALIASES = {"assistant": "bot", "agent": "bot"}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One utterance.

    Args:
        role: `user`, `bot` or `human` (a person of the staff); `agent` and `assistant` are read as `bot`.
        text: The utterance, or None where only ids are known.
        tokens: Ids of the tokens, all >= 1; they go before the text. An empty utterance has none.
        handoff: 0 normal, 1 transferable, None unknown.
        sentiment: 0 negative, 1 neutral, 2 positive, None unknown.
        action: What a logged policy did at the turn: 1 handed over, 0 did not.
        propensity: The probability with which it did that, in (0, 1].
        cost: The cost that was seen after that action.

    Example:
        >>> Turn(role="agent", text="How can I help?").role
        'bot'
    """

    role: str
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    handoff: int | None = None
    sentiment: int | None = None
    action: int | None = None
    propensity: float | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.role, str):
            object.__setattr__(self, "role", ALIASES.get(self.role, self.role))


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """The turns of one session, in their order.

    Args:
        id: Names the dialogue in every message about it.
        turns: At least one.
        satisfaction: 0 unsatisfied, 1 met, 2 well satisfied, None unknown.
        censored: Whether the log ended without a person taking over, so that nobody knows if one should have.

    Raises:
        ValueError: There is no turn, or a value of a turn is out of its range; the message names dialogue and turn.
        TypeError: The turns are not all of class `Turn`.

    Example:
        >>> Dialogue(id="a", turns=(Turn(role="user", text="hello"),)).turns[0].text
        'hello'
    """

    id: str
    turns: tuple[Turn, ...]
    satisfaction: int | None = None
    censored: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", tuple(self.turns))
        if not self.turns:
            raise ValueError(f"dialogue {self.id!r} is empty: give it at least one turn")
        if self.satisfaction not in (None, 0, 1, 2) or isinstance(self.satisfaction, bool | float):
            raise ValueError(f"dialogue {self.id!r}: satisfaction is {self.satisfaction!r}; it must be 0, 1, 2 or None")
        for number, turn in enumerate(self.turns):
            where = f"dialogue {self.id!r}, turn {number}"
            if not isinstance(turn, Turn):
                raise TypeError(f"{where}: expected a Turn, got {type(turn).__name__}")
            for name, allowed, wanted in _CHECKS:
                value = getattr(turn, name)
                if not allowed(value):
                    raise ValueError(f"{where}: {name} is {_short(value)}; it must be {wanted}")
            if turn.text is None and turn.tokens is None:
                raise ValueError(f"{where}: it has neither text nor tokens; give one, if only ''")
            if turn.action is None and turn.propensity is not None:
                raise ValueError(f"{where}: it has a propensity without the action that was taken with it")


def _one_of(*values: int) -> Callable[[object], bool]:
    return lambda value: value is None or (type(value) is int and value in values)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _ids(value: object) -> bool:
    return value is None or (isinstance(value, tuple) and all(type(token) is int and token >= 1 for token in value))


_CHECKS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("role", lambda value: value in ROLES, f"one of {', '.join(ROLES)}, or the aliases {', '.join(ALIASES)}"),
    ("text", lambda value: value is None or isinstance(value, str), "a string or None"),
    ("tokens", _ids, "ids that are integers >= 1, or None"),
    ("handoff", _one_of(0, 1), "0, 1 or None"),
    ("sentiment", _one_of(0, 1, 2), "0, 1, 2 or None"),
    ("action", _one_of(0, 1), "0, 1 or None"),
    (
        "propensity",
        lambda value: value is None or (_finite(value) and 0 < value <= 1),  # type: ignore[operator]
        "a probability in (0, 1], or None",
    ),
    ("cost", lambda value: value is None or _finite(value), "a finite number or None"),
)
