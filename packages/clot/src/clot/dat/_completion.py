"""The task as CLoT uses it: nine words are given, the tenth is chosen of four."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clot._backend import Prompt
from clot._draw import Draws
from clot._question import Language, Question
from clot._scorers import Scorer
from clot.metrics import mean_interval

from ._score import Vectors, mean_distance

GIVEN = 9
OPTIONS = 4


@dataclass(frozen=True, slots=True)
class Completion:
    """Nine words and four to choose a tenth from.

    Attributes:
        id: Its name.
        given: The nine words.
        options: The four.

    Example:
        >>> len(Completion("d1", tuple("abcdefghi"), tuple("wxyz")).given)
        9
    """

    id: str
    given: tuple[str, ...]
    options: tuple[str, ...]

    def question(self, lang: Language = "en") -> Question:
        """Give it as a question for a scorer."""
        return Question(self.id, Prompt(""), self.options, lang, wording="dat", words=self.given)


@dataclass(frozen=True, slots=True)
class CompletionResult:
    """Average semantic distances (ASD), each the `mean_distance` of ten words averaged over the items.

    Attributes:
        asd: With the words that the model chose.
        interval: Its bootstrap interval over items, or None for fewer than two.
        random: With a word drawn from the four, the mean of all choices.
        best: With the most distant of the four.
        worst: With the nearest of the four.
        best_rate: Share of items where the most distant word was chosen; one quarter by chance.
        parse_rate: Share of items whose answer could be read; the others count as drawn at random.
        items: Number of items.
        chosen: The distance of each completed list.
        offered: The distances that each item's four words would give.

    Example:
        >>> CompletionResult(80.0, (79.0, 81.0), 78.0, 83.0, 74.0, 0.4, 1.0, 100).best_rate
        0.4
    """

    asd: float
    interval: tuple[float, float] | None
    random: float
    best: float
    worst: float
    best_rate: float
    parse_rate: float
    items: int
    chosen: tuple[float, ...] = ()
    offered: tuple[tuple[float, ...], ...] = ()


def make_completions(
    words: Sequence[str], count: int, *, seed: int = 0, embeddings: Vectors | None = None
) -> list[Completion]:
    """Draw items from a list of words.

    The paper's items are not published. Here all thirteen words of an item are drawn alike, without replacement; with
    ``embeddings`` only words that have a vector.

    Args:
        words: Nouns to draw from.
        count: Number of items.
        seed: Another number draws others.
        embeddings: Vectors by word.

    Returns:
        Items.

    Raises:
        ValueError: There are fewer than 13 words, or ``count`` is below 1.

    Example:
        >>> make_completions([f"word{at}" for at in range(20)], 2)[0].id
        'dat-0'
    """
    known = sorted({word for word in words if embeddings is None or word in embeddings})
    if len(known) < GIVEN + OPTIONS:
        raise ValueError(f"{len(known)} words with a vector; expected at least {GIVEN + OPTIONS}")
    if count < 1:
        raise ValueError(f"count is {count}; expected at least 1 item")
    items = []
    for number in range(count):
        draws = Draws(seed, "dat", str(number))
        drawn: dict[str, None] = {}
        while len(drawn) < GIVEN + OPTIONS:
            drawn[known[draws.below(len(known))]] = None
        chosen = tuple(drawn)
        items.append(Completion(f"dat-{number}", chosen[:GIVEN], chosen[GIVEN:]))
    return items


def complete(
    scorer: Scorer, items: Sequence[Completion], embeddings: Vectors, *, lang: Language = "en", seed: int = 0
) -> CompletionResult:
    """Let a model choose the tenth words and measure the lists.

    Args:
        scorer: Asks the model. One that scores contents does not see the nine words; take letters or generation.
        items: Items whose words have vectors.
        embeddings: Vectors by word.
        lang: Language of the instruction.
        seed: Seed of the interval.

    Returns:
        Distances and what to compare them with.

    Raises:
        ValueError: There is no item, or a word has no vector.

    Example:
        >>> from clot import EchoBackend, LetterScorer
        >>> vectors = {f"word{letter}": np.eye(13)[at] for at, letter in enumerate("abcdefghijklm")}
        >>> found = complete(LetterScorer(EchoBackend()), make_completions(list(vectors), 5), vectors)
        >>> print(f"{found.asd:.1f} {found.best:.1f}")
        100.0 100.0
    """
    if not items:
        raise ValueError("there is no item to complete")
    scored = scorer.select([one.question(lang) for one in items])
    table = np.array([[mean_distance([*one.given, option], embeddings) for option in one.options] for one in items])
    chosen = np.array(
        [row.mean() if one.choice is None else row[one.choice[0]] for row, one in zip(table, scored, strict=True)]
    )
    hits = [
        1 / len(row) if one.choice is None else float(row[one.choice[0]] == row.max())
        for row, one in zip(table, scored, strict=True)
    ]
    return CompletionResult(
        asd=float(chosen.mean()),
        interval=mean_interval(chosen.tolist(), seed=seed),
        random=float(table.mean()),
        best=float(table.max(1).mean()),
        worst=float(table.min(1).mean()),
        best_rate=sum(hits) / len(hits),
        parse_rate=sum(one.parsed for one in scored) / len(scored),
        items=len(items),
        chosen=tuple(chosen.tolist()),
        offered=tuple(map(tuple, table.tolist())),
    )
