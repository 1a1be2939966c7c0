"""Screen records: a verdict and its reason for each, and nothing removed silently."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ._groups import fold
from ._record import Record, language

__all__ = ["LABELS", "BlockList", "Finding", "Judged", "PersonalData", "SafetyFilter", "Screener", "screen"]

LABELS = ("violence", "explicit sexual content", "hate or discrimination", "insult of a person", "self-harm", "crime")
"""What `Screener` asks about by default."""


@dataclass(frozen=True)
class Finding:
    """Why a filter objects to a record.

    Attributes:
        filter: The filter's name.
        reason: What it found, in words.
    """

    filter: str
    reason: str


@runtime_checkable
class SafetyFilter(Protocol):
    """Anything that judges a record. Filters report; what happens to the record is the caller's decision."""

    name: str

    def __call__(self, record: Record) -> str | None:
        """Give the reason to object to a record, or None."""


class BlockList:
    """Object to words: whole words in English, anywhere in Chinese and Japanese, which have no spaces.

    Args:
        words: Words by language of `language`, or a sequence for all languages. They are compared after `fold`.

    Example:
        >>> check = BlockList({"en": ["ass"]})
        >>> [check(Record("", "T2T", "Who?", None, text, None, "en")) for text in ("My ass!", "My glass!")]
        ["the word 'ass'", None]
    """

    name = "block-list"

    def __init__(self, words: Mapping[str, Iterable[str]] | Sequence[str]) -> None:
        if isinstance(words, Mapping):
            by_language = {language(lang): [fold(word) for word in some] for lang, some in words.items()}
        else:
            every = [fold(word) for word in words]
            by_language = {"en": every, "zh": every, "ja": every}
        self._patterns = {
            lang: re.compile(_pattern(sorted(filter(None, some), key=len, reverse=True), whole=lang == "en"))
            for lang, some in by_language.items()
            if any(some)
        }

    def __call__(self, record: Record) -> str | None:
        """Give the first listed word of question or text."""
        pattern = self._patterns.get(record.lang)
        if pattern is None:
            return None
        for text in (record.text, record.question):
            if text is not None and (found := pattern.search(fold(text))):
                return f"the word {found[0]!r}"
        return None


def _pattern(words: Sequence[str], *, whole: bool) -> str:
    either = "|".join(map(re.escape, words))
    # not \b: it would not find a word that ends in a sign, such as "f**k" or "c++"
    return rf"(?<!\w)(?:{either})(?!\w)" if whole else f"(?:{either})"


class PersonalData:
    """Object to e-mail addresses, telephone numbers and handles, found by their form.

    Example:
        >>> PersonalData()(Record("", "T2T", "Where?", None, "Write to ann@example.org!", None, "en"))
        "an e-mail address: 'ann@example.org'"
    """

    name = "personal-data"
    _PATTERNS = (
        ("an e-mail address", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", re.ASCII)),
        (
            "a telephone number",
            re.compile(r"(?<![\d.,])(?!\d{1,2}\.\d+(?![\d.-]))\+?\d(?:[ ().-]{0,2}\d){8,14}(?![\d.,]\d|\d)", re.ASCII),
        ),
        ("a handle", re.compile(r"(?<![\w@.])@[A-Za-z_][\w.]{2,30}(?<!\.)", re.ASCII)),
    )

    def __call__(self, record: Record) -> str | None:
        """Give the first piece of personal data of question or text."""
        for text in (record.text, record.question):
            if text is None:
                continue
            for what, pattern in self._PATTERNS:
                if found := pattern.search(text):
                    return f"{what}: {found[0]!r}"
        return None


class Judged:
    """Object where a function does.

    Args:
        judge: Gives a reason, or None.
        name: The filter's name.

    Example:
        >>> check = Judged(lambda record: "it shouts" if record.text.isupper() else None, name="loud")
        >>> check(Record("", "T2T", "Who?", None, "ME", None, "en"))
        'it shouts'
    """

    def __init__(self, judge: Callable[[Record], str | None], *, name: str) -> None:
        self._judge = judge
        self.name = name

    def __call__(self, record: Record) -> str | None:
        """Ask the function."""
        return self._judge(record)


class Screener:
    """Object where a model answers yes, label by label, as the authors of Oogiri-GO screened their crawl.

    Args:
        ask: Puts a question about a record, with its picture, to a model and gives its answer.
        labels: What to ask about.

    Example:
        >>> check = Screener(lambda question, record: "Yes" if "violence" in question else "No")
        >>> check(Record("", "T2T", "Who?", None, "Pow!", None, "en"))
        'the screener says yes to violence'
    """

    name = "screener"

    def __init__(self, ask: Callable[[str, Record], str], *, labels: Sequence[str] = LABELS) -> None:
        self._ask = ask
        self._labels = tuple(labels)

    def __call__(self, record: Record) -> str | None:
        """Give the first label that the model affirms, or an answer that is neither yes nor no."""
        for label in self._labels:
            question = (
                f"Does the picture or the text show, or do both together hint at, {label}? Answer yes or no.\n"
                f"Text: {record.question or ''}\n{record.text}"
            )
            answer = self._ask(question, record).strip().lower()
            if answer.startswith("yes"):
                return f"the screener says yes to {label}"
            if not answer.startswith("no"):
                return f"the screener gave no answer on {label}: {answer[:60]!r}"
        return None


def screen(records: Iterable[Record], filters: Sequence[SafetyFilter]) -> Iterator[tuple[Record, tuple[Finding, ...]]]:
    """Put every record before every filter.

    Args:
        records: Records.
        filters: Filters.

    Yields:
        Each record with the findings, none where no filter objects.

    Example:
        >>> rows = [Record("", "T2T", "Who?", None, text, None, "en") for text in ("Me.", "Call 030 1234 5678 9!")]
        >>> [len(findings) for _, findings in screen(rows, [PersonalData()])]
        [0, 1]
    """
    for record in records:
        reasons = ((one.name, one(record)) for one in filters)
        yield record, tuple(Finding(name, reason) for name, reason in reasons if reason is not None)
