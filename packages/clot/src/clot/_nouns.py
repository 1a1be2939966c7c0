"""Nouns of answers: the words that conditions are drawn from.

References:
    Zhong et al., Let's Think Outside the Box, 2024, arXiv:2312.02439, which tags with NLTK, Jieba and Janome.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from oogiri_go import Record, fold
from oogiri_go.runs import write_atomic

Tagger = Literal["tagger", "heuristic"]


def nouns_of(text: str, lang: str, *, method: Tagger = "tagger") -> list[str]:
    """Give the nouns of a text, in order, with repetitions.

    Args:
        text: The text.
        lang: ``"en"``, ``"zh"`` or ``"ja"``.
        method: ``"tagger"`` takes NLTK, Jieba or Janome (extra ``nouns``); ``"heuristic"`` needs nothing and guesses
            from neighbouring words, endings and scripts, so it misses nouns and takes other words for nouns.

    Returns:
        Nouns; English ones in lower case.

    Raises:
        MissingExtra: The extra is not installed.
        ValueError: NLTK's data are not there, or an argument has no such value.

    Example:
        >>> nouns_of("The lawyer put a cactus into my toaster.", "en", method="heuristic")
        ['lawyer', 'cactus', 'toaster']
    """
    if lang not in ("en", "zh", "ja"):
        raise ValueError(f"the language {lang!r} is not known; expected 'en', 'zh' or 'ja'")
    if method == "heuristic":
        from ._heuristic_nouns import heuristic_nouns

        return heuristic_nouns(text, lang)
    if method != "tagger":
        raise ValueError(f"method is {method!r}; expected 'tagger' or 'heuristic'")
    from ._taggers import tagged_nouns

    return tagged_nouns(text, lang)


@dataclass(frozen=True)
class NounSet:
    """Nouns by language, each with the number of answers it was found in.

    Attributes:
        counts: For each language the nouns, sorted, and their counts.

    Example:
        >>> texts = ("The cat did it.", "My cat, the judge.")
        >>> rows = [Record("", "T2T", "Why?", None, text, 1, "en") for text in texts]
        >>> NounSet.from_records(rows, method="heuristic").counts
        {'en': {'cat': 2, 'judge': 1}}
    """

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def from_records(
        cls,
        records: Iterable[Record],
        *,
        method: Tagger = "tagger",
        least: int = 1,
        exclude: Iterable[str] = (),
        keep: Callable[[str, str], bool] | None = None,
    ) -> "NounSet":
        """Collect the nouns of answers.

        Args:
            records: Records; take those of the training split only.
            method: As in `nouns_of`.
            least: Leave out nouns that fewer answers have.
            exclude: Words to leave out, compared after `oogiri_go.fold`: the place of the authors' manual screening.
            keep: A further test, ``keep(noun, lang)``.

        Returns:
            The set.

        Raises:
            MissingExtra, ValueError: As in `nouns_of`.
        """
        refused = {fold(word) for word in exclude}
        found: dict[str, Counter[str]] = {}
        for record in records:
            found.setdefault(record.lang, Counter()).update(set(nouns_of(record.text, record.lang, method=method)))
        return cls(
            {
                lang: {
                    noun: count
                    for noun, count in sorted(counter.items())
                    if count >= least and fold(noun) not in refused and (keep is None or keep(noun, lang))
                }
                for lang, counter in sorted(found.items())
            }
        )

    @classmethod
    def from_words(cls, words: Iterable[str], lang: str) -> "NounSet":
        """Take words as they are, in one language."""
        return cls({lang: dict.fromkeys(sorted(set(words)), 1)})

    def words(self, lang: str) -> tuple[str, ...]:
        """Give the nouns of a language, sorted; none where it has none."""
        return tuple(self.counts.get(lang, ()))

    def __len__(self) -> int:
        return sum(map(len, self.counts.values()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the set as JSON, atomically."""
        write_atomic(path, json.dumps({"version": 1, "counts": self.counts}, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "NounSet":
        """Read what `save` wrote.

        Raises:
            ValueError: The file has another form.
            FileNotFoundError: There is no such file.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            counts = data["counts"]
            if not all(isinstance(n, int) and w for by in counts.values() for w, n in by.items()):
                raise TypeError("a count is no integer")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{Path(path).name} is no noun set as `clot nouns` writes it: {error}") from None
        return cls({str(lang): dict(by) for lang, by in counts.items()})
