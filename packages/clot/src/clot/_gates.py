"""Quality gates: what a candidate must pass before the model may teach itself with it."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from oogiri_go import Record, SafetyFilter, fold

_RANGES = {  # of most scripts that the three languages share a page with, the two that tell them apart
    "han": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff々]"),
    "kana": re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]"),
    "latin": re.compile(r"[A-Za-z\u00c0-\u024f]"),
}


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Limits for the answers that self-refinement keeps. What fails one is dropped, and the ledger says by which.

    Attributes:
        min_chars: Least number of characters.
        max_chars: Largest number of characters.
        language: Whether at least half of the letters must be of the prompt's language: Latin for English, Han without
            kana for Chinese, Han or kana for Japanese.
        repetition: Largest share of an answer's pairs of neighbours (words in English, else characters) that occurred
            in it before.
        overlap: Largest share of trigrams of characters, ``|A and B| / |A or B|``, that an answer has in common with a
            known answer to the prompt, with the question, or with an earlier candidate. The same text never passes.
        condition: Whether an answer must hold the noun it was asked to.
        filters: Filters of `oogiri_go.safety`; none may object.
        repeats: For how many prompts the same answer may be kept.
        margin: Least difference between the score of the chosen answer and the next one's.
        share: Largest share of the next training's records that are new, above 0 and below 1.

    Raises:
        ValueError: A limit is out of its range.

    Example:
        >>> why = Record("", "T2T", "Why is the moon round?", None, "It rolled here.", 3, "en")
        >>> for text in ("It rolled here!", "ha ha ha ha ha", "Cheese ages in wheels."):
        ...     print(Gates().judge(text, why, answers=[why.text]))
        it repeats a known answer
        it repeats itself
        None
    """

    min_chars: int = 2
    max_chars: int = 200
    language: bool = True
    repetition: float = 0.5
    overlap: float = 0.7
    condition: bool = False
    filters: tuple[SafetyFilter, ...] = ()
    repeats: int = 3
    margin: float = 0.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.min_chars <= self.max_chars:
            raise ValueError(f"min_chars is {self.min_chars}, max_chars {self.max_chars}; expected 1 <= min <= max")
        for name in ("repetition", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share from 0 to 1")
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}; expected a share above 0 and below 1")
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}; expected at least 1")
        if self.margin < 0:
            raise ValueError(f"margin is {self.margin}; expected at least 0")

    def settings(self) -> dict[str, Any]:
        """Give every limit as JSON values; a filter is its name and type."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["filters"] = [f"{one.name} ({type(one).__qualname__})" for one in self.filters]
        return values

    def judge(
        self, text: str, record: Record, *, answers: Iterable[str] = (), earlier: Iterable[str] = ()
    ) -> str | None:
        """Give the reason against an answer, or None.

        Args:
            text: The answer.
            record: A record with the prompt.
            answers: Known answers to the prompt.
            earlier: Candidates for the same prompt that passed.

        Returns:
            A sentence that begins with "it", or None.
        """
        if len(text) < self.min_chars:
            return "it is too short"
        if len(text) > self.max_chars:
            return "it is too long"
        if self.language and not speaks(text, record.lang):
            return "it is in another language"
        if repetition(text, record.lang) > self.repetition:
            return "it repeats itself"
        folded, grams = fold(text), trigrams(text)
        others = (("a known answer", answers), ("the question", [record.question or ""]), ("a candidate", earlier))
        for name, texts in others:
            if any(fold(other) == folded or overlap(grams, trigrams(other)) > self.overlap for other in texts):
                return f"it repeats {name}"
        proposed = _with_text(record, text)
        for check in self.filters:
            if (reason := check(proposed)) is not None:
                return f"it fails {check.name}: {reason}"
        return None


def _with_text(record: Record, text: str) -> Record:
    return Record("", record.type, record.question, record.image, text, None, record.lang)


def speaks(text: str, lang: str) -> bool:
    """Whether at least half of the letters belong to the language's scripts."""
    count = {name: len(pattern.findall(text)) for name, pattern in _RANGES.items()}
    letters = sum(unicodedata.category(one).startswith("L") for one in text)
    if lang == "en":
        return 0 < letters <= 2 * count["latin"]
    if lang == "zh":
        return not count["kana"] and 0 < letters <= 2 * count["han"]
    return 0 < letters <= 2 * (count["kana"] + count["han"])


def units(text: str, lang: str) -> list[str]:
    """Words in English, characters in Chinese and Japanese, folded."""
    folded = fold(text)
    return folded.split() if lang == "en" else [one for one in folded if not one.isspace()]


def repetition(text: str, lang: str) -> float:
    """Share of the pairs of neighbours that occurred before: 1 - distinct / all."""
    found = units(text, lang)
    pairs = list(pairwise(found))
    return 1 - len(set(pairs)) / len(pairs) if len(pairs) > 1 else 0.0


def trigrams(text: str) -> frozenset[str]:
    """Three characters after another of the folded text; of a shorter one, itself."""
    folded = fold(text)
    return frozenset(folded[at : at + 3] for at in range(max(len(folded) - 2, 1))) if folded else frozenset()


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Share in common: ``|A and B| / |A or B|``."""
    return len(one & other) / len(one | other) if one and other else 0.0
