"""Whether a model can tell answers apart at all: without that, choosing its own answers teaches it noise."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from oogiri_go import Record, choice_questions, group_key
from oogiri_go.runs import write_atomic

from ._backend import Prompt
from ._picture_of import picture_of
from ._question import Question
from ._scorers import Scorer
from ._templates import game_of
from .metrics import wilson

CHANCE: Final = 1 / 3


@dataclass(frozen=True)
class Discrimination:
    """Answers found among those of other prompts (3T1) on prompts that are not refined on.

    Attributes:
        right: Number of questions answered rightly.
        questions: Number of questions.
    """

    right: int
    questions: int

    @property
    def accuracy(self) -> float:
        """Share of right ones."""
        return self.right / self.questions if self.questions else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.right, self.questions)


class NotAboveChance(RuntimeError):
    """The model does not tell answers apart better than chance, so refinement stops before it spoils the model."""


def discriminate(
    scorer: Scorer,
    records: Sequence[Record],
    *,
    pictures: Mapping[str, bytes] | None = None,
    seed: int = 0,
    batch: int = 16,
) -> Discrimination:
    """Ask 3T1 questions: the best-liked answer to a prompt among two answers to others.

    Args:
        scorer: Selects.
        records: Held-out records; one question is made of each prompt.
        pictures: Encoded pictures by identifier.
        seed: Another number makes others.
        batch: Questions of one call.

    Returns:
        How many were answered rightly; an answer that cannot be read is wrong.
    """
    questions = list(_questions(records, pictures, seed))
    right = 0
    for start in range(0, len(questions), batch):
        some = questions[start : start + batch]
        right += sum(scored.choice == asked.answer for asked, scored in zip(some, scorer.select(some), strict=True))
    return Discrimination(right, len(questions))


def _questions(records: Sequence[Record], pictures: Mapping[str, bytes] | None, seed: int) -> Iterator[Question]:
    for choice in choice_questions(records, options=3, seed=seed):
        record = choice.prompt
        head = Prompt(record.question or "", picture_of(record, pictures))
        name = f"held out, {group_key(record)}"
        game = game_of(record.type, record.question)
        yield Question(name, head, choice.options, record.lang, game, answer=choice.answers)


def measured(
    scorer: Scorer,
    model: str,
    records: Sequence[Record],
    path: Path,
    *,
    pictures: Mapping[str, bytes] | None,
    seed: int,
    batch: int,
) -> Discrimination:
    """Measure it and write it to a file, or take what was measured of this model before."""
    if path.exists():
        said = json.loads(path.read_bytes())
        if said.pop("model") == model:
            return Discrimination(said["right"], said["questions"])
    found = discriminate(scorer, records, pictures=pictures, seed=seed, batch=batch)
    write_atomic(path, json.dumps({"model": model, **asdict(found)}) + "\n")
    return found


def require(found: Discrimination, least: float, number: int) -> None:
    """Stop where the lower end of the interval is not above ``least``.

    Raises:
        NotAboveChance: It is not, and ``least`` is above 0.
    """
    low, high = found.interval
    if least > 0 and low <= least:
        raise NotAboveChance(
            f"round {number}: of {found.questions} held-out questions (3T1) the model answers {found.accuracy:.1%} "
            f"rightly, 95 % interval {low:.1%} to {high:.1%}, which is not above {least:.1%}. What it would choose of "
            "its own answers is noise: train it first, hold out more prompts, or lower min_discrimination."
        )
