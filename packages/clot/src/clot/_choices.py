"""Questions of the kinds mTn: m options of which n are right, built from an answer and its distractors.

2T1: the answer and a plain one. 3T1: and an answer to another prompt. 4T1: and the answer rewritten without its joke.
5T2: and a second answer to the prompt, so that two are right.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from oogiri_go import Record, fold, group_key

from ._backend import Prompt
from ._draw import Draws
from ._question import Question
from .distractors import Distractors

Task = Literal["2T1", "3T1", "4T1", "5T2"]
TASKS: tuple[Task, ...] = ("2T1", "3T1", "4T1", "5T2")
RANKED = 5


def choice_options(
    record: Record, task: str, distractors: Distractors, *, second: str | None = None, draws: Draws
) -> tuple[tuple[str, ...], tuple[int, ...]] | str:
    """Options and positions of the right ones, or in words what is missing.

    Args:
        record: Its answer is right.
        task: ``"2T1"``, ``"3T1"``, ``"4T1"`` or ``"5T2"``.
        distractors: Where wrong options come from.
        second: Another right answer, for ``"5T2"``.
        draws: Decide the order.
    """
    right = [record.text]
    if task == "5T2":
        if second is None:
            return "no second answer to the prompt"
        right.append(second)
    plain = distractors.literal(record)
    if plain is None:
        return "no plain answer (caption) to the prompt"
    wrong = [plain]
    if task in ("4T1", "5T2"):
        rewritten = distractors.rewrite(record)
        if rewritten is None:
            return "no rewritten answer"
        wrong.append(rewritten)
    if task != "2T1":
        other = distractors.other(record, taken=[*right, *wrong], key=task)
        if other is None:
            return "no answer to another prompt"
        wrong.append(other)
    texts = [*right, *wrong]
    keys = [fold(text) for text in texts]
    if not all(keys):
        return "an option is empty"
    if len(set(keys)) < len(keys):
        return "two options are alike"
    order = draws.shuffled(len(texts))
    return tuple(texts[at] for at in order), tuple(at for at, place in enumerate(order) if place < len(right))


def choice_questions(
    records: Sequence[Record],
    task: Task,
    distractors: Distractors,
    *,
    seed: int = 0,
    pictures: Mapping[str, bytes] | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[Question]:
    """Make one question of each prompt: its best-liked answer among wrong ones.

    One question a prompt, so that questions are independent of one another. Options that cannot be had are not
    replaced: the prompt has no question, and the reason is counted.

    Args:
        records: Records.
        task: ``"2T1"``, ``"3T1"``, ``"4T1"`` or ``"5T2"``.
        distractors: Where wrong options come from.
        seed: Decides the order of the options.
        pictures: Encoded pictures by identifier; None asks without pictures.
        skipped: Counts the prompts without question, by reason.

    Yields:
        Questions.

    Raises:
        ValueError: There is no such task.

    Example:
        >>> rows = [Record("", "T2T", f"Question {at}?", None, f"Answer {at}.", 1, "en") for at in range(3)]
        >>> wrong = Distractors(rows, literals={group_key(rows[0]): "It is 0."})
        >>> why = Counter()
        >>> print([one.options[one.answer[0]] for one in choice_questions(rows, "3T1", wrong, skipped=why)], dict(why))
        ['Answer 0.'] {'no plain answer (caption) to the prompt': 2}
    """
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}; expected {', '.join(TASKS)} or 'rank'")
    skipped = Counter() if skipped is None else skipped
    for answers in prompts_of(records).values():
        best = sorted(answers, key=lambda one: -1 if one.star is None else one.star, reverse=True)
        record = best[0]
        second = next((one.text for one in best[1:] if fold(one.text) != fold(record.text)), None)
        made = choice_options(
            record, task, distractors, second=second, draws=Draws(seed, task, group_key(record), record.lang)
        )
        if isinstance(made, str):
            skipped[made] += 1
            continue
        options, answer = made
        if (head := head_of(record, pictures)) is None:
            skipped["no picture"] += 1
            continue
        yield Question(
            f"{task}-{group_key(record)[:16]}-{record.lang}",
            head,
            options,
            record.lang,
            record.type,
            n_right=len(answer),
            answer=answer,
        )


def ranking_questions(
    records: Sequence[Record],
    *,
    by: Literal["star", "rating"] = "star",
    count: int = RANKED,
    seed: int = 0,
    pictures: Mapping[str, bytes] | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[Question]:
    """Make one question of each prompt: answers to be put in order, no two with as many stars.

    Args:
        records: Records.
        by: ``"star"`` takes the likes; ``"rating"`` the mean of people's ratings, ``rating_mean`` in ``extra``. Likes
            grow with how often an answer was shown, so where there are ratings they are the better measure.
        count: Number of answers, 2 to 26.
        seed: Decides which answers, and their order.
        pictures: Encoded pictures by identifier; None asks without pictures.
        skipped: Counts the prompts without question, by reason.

    Yields:
        Questions with ``stars``.

    Raises:
        ValueError: An argument has no such value.

    Example:
        >>> rows = [Record("", "T2T", "Why?", None, f"Answer {at}.", at, "en") for at in range(9)]
        >>> len(next(ranking_questions(rows)).options)
        5
    """
    if by not in ("star", "rating"):
        raise ValueError(f"by is {by!r}; expected 'star' or 'rating'")
    if not 2 <= count <= 26:
        raise ValueError(f"count is {count}; expected 2 to 26 answers")
    skipped = Counter() if skipped is None else skipped
    for answers in prompts_of(records).values():
        first = answers[0]
        known = [(value, one.text) for one in answers if (value := _measure(one, by)) is not None and one.text.strip()]
        if known and len({value for value, _ in known}) == 1:
            skipped["all stars are equal"] += 1
            continue
        draws = Draws(seed, "rank", group_key(first), first.lang)
        chosen: dict[float, str] = {}
        for at in draws.shuffled(len(known)):
            value, text = known[at]
            if value not in chosen and fold(text) not in map(fold, chosen.values()):
                chosen[value] = text
                if len(chosen) == count:
                    break
        if len(chosen) < count:
            skipped[f"fewer than {count} answers with different stars"] += 1
            continue
        if (head := head_of(first, pictures)) is None:
            skipped["no picture"] += 1
            continue
        yield Question(
            f"rank-{group_key(first)[:16]}-{first.lang}",
            head,
            tuple(chosen.values()),
            first.lang,
            first.type,
            stars=tuple(chosen),
        )


def prompts_of(records: Iterable[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """Records by language, game and prompt."""
    found: dict[tuple[str, str, str], list[Record]] = {}
    for one in records:
        found.setdefault((one.lang, one.type, group_key(one)), []).append(one)
    return found


def head_of(record: Record, pictures: Mapping[str, bytes] | None) -> Prompt | None:
    """What a record answers, or None where its picture is wanted and not there."""
    if record.image is None or pictures is None:
        return Prompt(record.question or "")
    picture = pictures.get(record.image)
    return None if picture is None else Prompt(record.question or "", picture)


def _measure(record: Record, by: str) -> float | None:
    if by == "star":
        return record.star
    value = record.extra.get("rating_mean")
    return float(value) if isinstance(value, int | float) else None
