"""What an evaluation found: per task, against chance, with how much could be read."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from oogiri_go.runs import write_atomic

from ._question import Question, Scored
from .metrics import (
    chance,
    choice_accuracy,
    expected_random_ndcg,
    kendall_tau,
    mean_interval,
    ndcg,
    normalised_ndcg,
    parse_rate,
    top1,
    wilson,
)

Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """Questions of one kind mTn.

    Attributes:
        questions: Number of questions.
        chance: Accuracy of guessing.
        accuracy: Share of exact sets; what could not be read is wrong.
        interval: Wilson's 95 % interval of the accuracy; there is one question a prompt.
        parse_rate: Share that could be read.
        accuracy_parsed: Accuracy on those, or None where there are none.
        missing: Number of option letters that a server gave no probability for.

    Example:
        >>> ChoiceResult(10, 0.5, 0.8, (0.49, 0.94), 1.0, 0.8, 0).accuracy
        0.8
    """

    questions: int
    chance: float
    accuracy: float
    interval: Interval
    parse_rate: float
    accuracy_parsed: float | None
    missing: int

    @classmethod
    def of(cls, questions: Sequence[Question], scored: Sequence[Scored]) -> "ChoiceResult":
        """Count them."""
        choices = [one.choice if one.parsed else None for one in scored]
        answers = [one.answer for one in questions]
        accuracy = choice_accuracy(choices, answers)
        on_parsed = choice_accuracy(choices, answers, parsed_only=True)
        return cls(
            questions=len(questions),
            chance=math.fsum(chance(len(one.options), one.n_right) for one in questions) / len(questions),
            accuracy=accuracy,
            interval=wilson(accuracy * len(questions), len(questions)),
            parse_rate=parse_rate(choices),
            accuracy_parsed=None if math.isnan(on_parsed) else on_parsed,
            missing=sum(one.missing for one in scored),
        )


@dataclass(frozen=True, slots=True)
class RankResult:
    """Questions to put answers in order. What could not be read counts as a random order.

    Attributes:
        questions: Number of questions.
        ndcg: Mean of `metrics.ndcg`.
        ndcg_interval: Its bootstrap interval over questions.
        random_ndcg: Mean of `metrics.expected_random_ndcg` of the same questions: the floor.
        normalised_ndcg: Mean of `metrics.normalised_ndcg`: 0 for a random order, 1 for the best.
        normalised_interval: Its bootstrap interval over questions.
        top1: Mean of `metrics.top1`.
        top1_interval: Its bootstrap interval over questions.
        top1_chance: What a random order gives.
        tau: Mean of `metrics.kendall_tau`, 0 where a question has none.
        parse_rate: Share that could be read.
        missing: Number of option letters that a server gave no probability for.

    Example:
        >>> RankResult(1, 0.9, None, 0.86, 0.3, None, 1.0, None, 0.2, 0.4, 1.0, 0).random_ndcg
        0.86
    """

    questions: int
    ndcg: float
    ndcg_interval: Interval
    random_ndcg: float
    normalised_ndcg: float
    normalised_interval: Interval
    top1: float
    top1_interval: Interval
    top1_chance: float
    tau: float
    parse_rate: float
    missing: int

    @classmethod
    def of(cls, questions: Sequence[Question], scored: Sequence[Scored]) -> "RankResult":
        """Measure them."""
        rows = [
            _ranked(asked.stars, one.scores if one.parsed else None)
            for asked, one in zip(questions, scored, strict=True)
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        gain, floor, normal, first, luck, tau = (math.fsum(column) / len(column) for column in columns)
        return cls(
            questions=len(questions),
            ndcg=gain,
            ndcg_interval=mean_interval(columns[0]),
            random_ndcg=floor,
            normalised_ndcg=normal,
            normalised_interval=mean_interval(columns[2]),
            top1=first,
            top1_interval=mean_interval(columns[3]),
            top1_chance=luck,
            tau=tau,
            parse_rate=sum(one.parsed for one in scored) / len(scored),
            missing=sum(one.missing for one in scored),
        )


def _ranked(stars: Sequence[float], scores: Sequence[float] | None) -> tuple[float, ...]:
    scores = [0.0] * len(stars) if scores is None else scores  # all tied: the mean over all orders
    floor = expected_random_ndcg(stars)
    return (
        ndcg(stars, scores),
        floor,
        normalised_ndcg(stars, scores) or 0.0,
        top1(stars, scores),
        sum(star == max(stars) for star in stars) / len(stars),
        kendall_tau(stars, scores) or 0.0,
    )


@dataclass(frozen=True)
class Evaluation:
    """Everything that `evaluate` found.

    Attributes:
        tasks: By task, over all games and languages.
        cells: The same by ``"task/game/lang"``.
        control: By task, choices on exchanged prompts (`swap_heads`). What is above chance here was not found by
            looking at the prompt.
        skipped: By task, the number of prompts without question, by reason.
        failed: By question, why the model could not take it.
        places: How often each letter was chosen: ``"given"`` in the given order of the options, ``"averaged"`` after
            averaging over orders; only by letters.
        scorer: Its name.
        model: The digest of the backend.
        templates: The digest of the wording.
        seed: The seed.
        rows: A mapping a question: id, task, game, lang, options, answer or stars, choice, scores, right.
    """

    tasks: Mapping[str, ChoiceResult | RankResult]
    cells: Mapping[str, ChoiceResult | RankResult]
    control: Mapping[str, ChoiceResult]
    skipped: Mapping[str, Mapping[str, int]]
    failed: Mapping[str, str]
    places: Mapping[str, Mapping[str, int]]
    scorer: str
    model: str
    templates: str
    seed: int
    rows: Sequence[Mapping[str, Any]] = field(repr=False, default=())

    def average(self) -> float | None:
        """Give the mean of accuracies and NDCG, the paper's "Avg"; None where a task has no question."""
        found = [one.accuracy if isinstance(one, ChoiceResult) else one.ndcg for one in self.tasks.values()]
        return math.fsum(found) / len(found) if found else None

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Give everything as JSON holds it.

        Args:
            rows: Also what was asked and answered.
        """
        data = asdict(self) | {"average": self.average()}
        if not rows:
            del data["rows"]
        return data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, atomically."""
        write_atomic(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n")

    def table(self) -> str:
        """Lay the tasks out for a terminal, each beside what chance gives."""
        lines = [f"{'task':<8}{'n':>6}  {'measure':<16}{'value':>8}{'95 % interval':>18}{'chance':>9}{'parsed':>8}"]
        for name, one in self.tasks.items():
            if isinstance(one, ChoiceResult):
                shown = [("accuracy", one.accuracy, one.interval, one.chance)]
                if name in self.control:
                    other = self.control[name]
                    shown.append(("  swapped prompt", other.accuracy, other.interval, other.chance))
            else:
                shown = [
                    ("NDCG", one.ndcg, one.ndcg_interval, one.random_ndcg),
                    ("  normalised", one.normalised_ndcg, one.normalised_interval, 0.0),
                    ("  top-1", one.top1, one.top1_interval, one.top1_chance),
                    ("  Kendall's tau", one.tau, None, 0.0),
                ]
            for at, (measure, value, interval, luck) in enumerate(shown):
                between = "" if interval is None else f"{interval[0]:.3f} .. {interval[1]:.3f}"
                first = f"{name:<8}{one.questions:>6}" if at == 0 else " " * 14
                parsed = f"{one.parse_rate:>8.3f}" if at == 0 else ""
                lines.append(f"{first}  {measure:<16}{value:>8.3f}{between:>18}{luck:>9.3f}{parsed}")
        return "\n".join(lines)
