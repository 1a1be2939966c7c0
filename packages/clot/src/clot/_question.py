"""A question with options: which are right, or which order."""

from dataclasses import dataclass
from typing import Literal

from oogiri_go import fold

from ._backend import Prompt

MAX_OPTIONS = 26
"""Options are named by the letters A to Z."""

Game = Literal["T2T", "I2T", "IT2T"]
Language = Literal["en", "zh", "ja"]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt of Oogiri and some answers to it, to choose from or to put in order.

    Attributes:
        id: Names the question in errors, reports and ledgers.
        prompt_head: What all options answer: the question's text ("" where there is only a picture), and the picture.
            It holds no instruction; scorers add the instruction of game and language.
        options: 2 to 26 answers, no two alike after `oogiri_go.fold`, none empty.
        lang: Language of the instruction.
        game: The game.
        n_right: Number of options to choose; below their number.
        answer: Positions of the right options, ascending; () where there is none to know.
        stars: Likes of the options, for an order; () where they are not known.
        wording: The kind of template it is asked with, ``"select"``, ``"cloud"`` or ``"dat"``.
        words: The words that are given, for ``"dat"``.
        variant: Which paraphrase it is asked with.

    Raises:
        ValueError: Options are too few, too many, empty or alike, or answer or stars do not fit them.

    Example:
        >>> Question("q1", Prompt("Why?"), ("Why not?", "Because.", "Tuesday."), "en", answer=(2,)).n_right
        1
    """

    id: str
    prompt_head: Prompt
    options: tuple[str, ...]
    lang: Language
    game: Game = "T2T"
    n_right: int = 1
    answer: tuple[int, ...] = ()
    stars: tuple[float, ...] = ()
    wording: Literal["select", "cloud", "dat"] = "select"
    words: tuple[str, ...] = ()
    variant: int = 0

    def __post_init__(self) -> None:
        count = len(self.options)
        if count > MAX_OPTIONS:
            raise ValueError(f"question {self.id}: {count} options; letters name at most {MAX_OPTIONS}")
        if count < 2 or not 1 <= self.n_right < count:
            raise ValueError(
                f"question {self.id}: {self.n_right} of {count} options to choose; expected at least 2 options, and "
                "fewer to choose than there are"
            )
        seen: dict[str, int] = {}
        for at, option in enumerate(self.options):
            if not (key := fold(option)):
                raise ValueError(f"question {self.id}: option {at} is empty; leave it out")
            if key in seen:
                raise ValueError(
                    f"question {self.id}: options {seen[key]} and {at} are alike, {option!r}; a choice between them "
                    "means nothing, so leave one out"
                )
            seen[key] = at
        if self.answer:
            if list(self.answer) != sorted(set(self.answer)) or not 0 <= self.answer[0] <= self.answer[-1] < count:
                raise ValueError(f"question {self.id}: the answer is {self.answer}; expected positions, ascending")
            if len(self.answer) != self.n_right:
                raise ValueError(f"question {self.id}: {len(self.answer)} right options, but n_right is {self.n_right}")
        if self.stars and len(self.stars) != count:
            raise ValueError(f"question {self.id}: {len(self.stars)} stars for {count} options")


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scorer found of a question.

    Attributes:
        id: The question's.
        scores: One number an option, higher is better; None where the model's answer could not be read.
        choice: The chosen positions, ascending; None where the answer could not be read.
        parsed: Whether it could be read. Scorers by probability always can.
        missing: Number of option letters for which the server gave no probability.

    Example:
        >>> Scored("q1", (0.1, 0.7, 0.2), (1,)).order()
        (1, 2, 0)
    """

    id: str
    scores: tuple[float, ...] | None
    choice: tuple[int, ...] | None
    parsed: bool = True
    missing: int = 0

    def order(self) -> tuple[int, ...] | None:
        """Give the positions, best first, earlier ones first among equals; None where there are no scores."""
        if self.scores is None:
            return None
        scores = self.scores
        return tuple(sorted(range(len(scores)), key=lambda at: -scores[at]))
