"""Multiple choice: find the answer that was given to this prompt."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from ._groups import fold, group_key, rivals
from ._record import Record


@dataclass(frozen=True)
class Choice:
    """A question of the kind mTn: m options, n of them right.

    Attributes:
        prompt: A record that carries the prompt: question, picture, language and game.
        options: The options, in an order that a hash decides.
        answers: Positions of the right options, ascending.
    """

    prompt: Record
    options: tuple[str, ...]
    answers: tuple[int, ...]


def choice_questions(
    records: Iterable[Record],
    *,
    options: int = 3,
    answers: int = 1,
    distractors: Callable[[Record], Sequence[str]] | None = None,
    seed: int = 0,
    pictures: Mapping[str, str] | None = None,
) -> Iterator[Choice]:
    """Make one question of each prompt and language: its best-liked answers among answers to other prompts.

    Wrong options are taken from ``distractors`` first (captions, rewritings), then from other prompts of the same
    language and game. Which, and the order of the options, are decided by hashes of seed and prompt. No two options of
    a question are equal after `fold`, and no wrong one is an answer to its prompt.

    Args:
        records: Records.
        options: Number of options, m.
        answers: Number of right ones, n; 1 <= n < m.
        distractors: Gives wrong options for the record with the prompt, the preferred first.
        seed: Another number gives other questions.
        pictures: As in `group_key`.

    Yields:
        Questions, in the order of the prompts; a prompt with too few answers, or without enough wrong options, has
        none.

    Raises:
        ValueError: ``options`` or ``answers`` has no such value.

    Example:
        >>> rows = [Record("", "T2T", f"Question {i}?", None, f"Answer {i}.", i, "en") for i in range(9)]
        >>> first = next(choice_questions(rows, options=4))
        >>> print(len(first.options), [first.options[at] for at in first.answers])
        4 ['Answer 0.']
    """
    if not 1 <= answers < options:
        raise ValueError(f"options is {options} and answers {answers}; expected 1 <= answers < options")
    prompts = rivals(records, pictures)
    others: dict[tuple[str, str], list[Record]] = {}
    for (lang, game, _), group in prompts.items():
        others.setdefault((lang, game), []).extend(group)
    for (lang, game, key), group in prompts.items():
        best = _distinct(sorted(group, key=lambda one: -1 if one.star is None else one.star, reverse=True))
        if len(best) < answers:
            continue
        prompt = best[0]
        right = [one.text for one in best[:answers]]
        taken = {fold(one.text) for one in group}
        wrong: list[str] = []
        drawn = _drawn(others[lang, game], key, seed, pictures)
        for text in [*(distractors(prompt) if distractors else ()), *drawn]:
            if len(wrong) == options - answers:
                break
            if fold(text) not in taken:
                taken.add(fold(text))
                wrong.append(text)
        if len(wrong) < options - answers:
            continue
        shown = sorted([*right, *wrong], key=lambda text: _hash(seed, key, text))
        yield Choice(prompt, tuple(shown), tuple(at for at, text in enumerate(shown) if text in right))


def _drawn(records: Sequence[Record], key: str, seed: int, pictures: Mapping[str, str] | None) -> Iterator[str]:
    """Answers to other prompts, drawn by hash; it ends, whatever there is."""
    for attempt in range(4 * len(records)):
        record = records[_hash(seed, key, str(attempt)) % len(records)]
        if group_key(record, pictures) != key:
            yield record.text


def _distinct(records: Iterable[Record]) -> list[Record]:
    found: dict[str, Record] = {}
    for one in records:
        found.setdefault(fold(one.text), one)
    return list(found.values())


def _hash(seed: int, *words: str) -> int:
    return int.from_bytes(blake2b("\0".join([str(seed), *words]).encode(), digest_size=8).digest(), "big")
