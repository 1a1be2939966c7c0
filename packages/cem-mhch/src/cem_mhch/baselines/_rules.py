"""Baselines that learn nothing."""

import re
from collections.abc import Sequence

from cem_mhch._types import Dialogue

COMPLAINTS = (
    r"\b(human|person|agent|representative|operator|manager|supervisor|someone)\b",
    r"\b(useless|ridiculous|terrible|awful|worst|annoying|angry|frustrat\w*|unacceptable|complain\w*)\b",
    r"\b(not (help|listen|work)\w*|how many times|give up|losing my patience)\b",
)

Scores = list[list[float]]


class Never:
    """Never hand over."""

    name = "never"

    def score(self, dialogues: Sequence[Dialogue]) -> Scores:
        """0 for each turn."""
        return [[0.0] * len(dialogue.turns) for dialogue in dialogues]


class Always:
    """Hand over at every turn."""

    name = "always"

    def score(self, dialogues: Sequence[Dialogue]) -> Scores:
        """1 for each turn."""
        return [[1.0] * len(dialogue.turns) for dialogue in dialogues]


class Keyword:
    """Hand over at user turns whose text holds a complaint or asks for a person.

    Args:
        patterns: Regular expressions.

    Raises:
        ValueError: An expression cannot be compiled.

    Example:
        >>> from cem_mhch import Turn
        >>> Keyword().score([Dialogue(id="a", turns=(Turn(role="user", text="This is useless!"),))])
        [[1.0]]
    """

    name = "keyword"

    def __init__(self, patterns: Sequence[str] = COMPLAINTS) -> None:
        try:
            self._pattern = re.compile("|".join(f"(?:{one})" for one in patterns), re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"{list(patterns)} holds no regular expression: {error}") from error

    def score(self, dialogues: Sequence[Dialogue]) -> Scores:
        """1 or 0 for each turn; a turn without a text gets 0."""
        return [
            [float(turn.role == "user" and bool(turn.text and self._pattern.search(turn.text))) for turn in one.turns]
            for one in dialogues
        ]
