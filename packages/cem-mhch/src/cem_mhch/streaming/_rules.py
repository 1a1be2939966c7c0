"""Hard rules beside the score: a user who asks for a person, a bot that keeps falling back."""

import re
from dataclasses import dataclass, field

EXPLICIT_REQUEST = (
    r"\b(talk|speak|chat|connect|transfer|put|pass|switch|get)\b.{0,30}\b(human|person|agent|someone|somebody|representative|operator|staff|colleague)\b",
    r"\b(human|real person|live agent|representative|operator)\b.{0,20}\b(please|now)\b",
    r"^\W*(human|agent|operator|representative)\W*$",
)
FALLBACK = (
    r"\b(did not|didn't|do not|don't|could not|couldn't|not sure)\b.{0,30}\b(understand|get|catch|know|mean)\b",
    r"\bnot sure (what|i)\b",
    r"\b(rephrase|say (it|that) (another|a different) way|say that again)\b",
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When to hand over whatever the score says.

    Args:
        explicit_request: Regular expressions; a user's text that holds one asks for a person. None of them: ().
        fallback: Regular expressions; a bot's text that holds one is a fallback.
        max_fallbacks: So many fallbacks in a row, without another bot turn between, hand over; 0 switches it off.

    Raises:
        ValueError: An expression cannot be compiled, or the number is below 0.

    Example:
        >>> Rules().asks("Can I talk to a human?"), Rules().falls_back("Sorry, I did not understand that.")
        (True, True)
    """

    explicit_request: tuple[str, ...] = EXPLICIT_REQUEST
    fallback: tuple[str, ...] = FALLBACK
    max_fallbacks: int = 2
    _asks: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)
    _falls: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.max_fallbacks < 0:
            raise ValueError(f"max_fallbacks is {self.max_fallbacks}; give 0 (off) or more")
        object.__setattr__(self, "_asks", _compile(self.explicit_request, "explicit_request"))
        object.__setattr__(self, "_falls", _compile(self.fallback, "fallback"))

    def asks(self, text: str) -> bool:
        """Whether a user's text asks for a person."""
        return self._asks is not None and self._asks.search(text) is not None

    def falls_back(self, text: str) -> bool:
        """Whether a bot's text is a fallback."""
        return self._falls is not None and self._falls.search(text) is not None


def _compile(expressions: tuple[str, ...], name: str) -> re.Pattern[str] | None:
    if not expressions:
        return None
    for one in expressions:
        try:
            re.compile(one)
        except re.error as error:
            raise ValueError(f"{name} holds {one!r}, which is no regular expression: {error}") from error
    return re.compile("|".join(f"(?:{one})" for one in expressions), re.IGNORECASE)
