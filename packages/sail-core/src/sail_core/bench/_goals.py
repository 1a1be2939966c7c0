"""Goals: a bound on a ratio, or on the value of a field, that certain rows must keep."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ._rows import FIELDS, Row

Goal = Mapping[str, Any]


@dataclass(frozen=True)
class GoalResult:
    """How one goal fared: ``value`` is what was measured over ``rows`` rows, None where nothing was."""

    name: str
    status: Literal["met", "missed", "unmeasured"]
    value: float | None
    bound: float
    rows: int
    note: str = ""
    reason: str = ""

    def __str__(self) -> str:
        value = "-" if self.value is None else f"{self.value:.3f}"
        note = f" ({self.note})" if self.note else ""
        reason = f"; {self.reason}" if self.reason and self.status != "met" else ""
        return f"{self.status:10}  {value:>7} of {self.bound:<5g}  {self.name}: {self.rows} rows{note}{reason}"


def read_goals(path: str | Path) -> list[Goal]:
    """Read the ``[[goal]]`` tables of a TOML file.

    Each has ``name``; ``where``, a table of row fields, each with a value, a list of values or ``{min, max}``;
    ``peer``, whose ratio counts, or ``field``, a numeric field; ``statistic`` over the rows, ``"min"``, ``"max"`` or
    ``"geomean"``; ``at_least`` or ``at_most``; and, if it is known to be missed, the ``reason``.

    Args:
        path: The file.

    Returns:
        The goals.

    Raises:
        ValueError: If the file is not TOML or a goal is malformed.
    """
    try:
        goals = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("goal", [])
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    for goal in goals:
        _validate(goal)
    return list(goals)


def check(rows: Sequence[Row], goals: Sequence[Goal]) -> list[GoalResult]:
    """Hold rows against goals.

    Rows that were measured on a noisy machine, and values that were not measured, do not count; a goal without any
    value is unmeasured. A wrong result among a goal's rows misses the goal.

    Args:
        rows: Rows as ``compare`` or ``read_rows`` gives them.
        goals: Goals as ``read_goals`` gives them.

    Returns:
        One result for each goal.

    Raises:
        ValueError: If a goal is malformed.

    Example:
        >>> goal = {"name": "fast", "where": {"op": "se"}, "peer": "timm", "statistic": "min", "at_least": 1.1}
        >>> row = {"op": "se", "correct": True, "noisy": False, "peer_ratio": {"timm": 1.25}}
        >>> print(*check([row], [goal]))
        met           1.250 of 1.1    fast: 1 rows
    """
    return [_judge(rows, goal) for goal in goals]


def _judge(rows: Sequence[Row], goal: Goal) -> GoalResult:
    _validate(goal)
    bound = goal["at_least"] if "at_least" in goal else goal["at_most"]

    def result(status: Literal["met", "missed", "unmeasured"], value: float | None, n: int, note: str) -> GoalResult:
        return GoalResult(goal["name"], status, value, bound, n, note, goal.get("reason", ""))

    matching = [row for row in rows if all(_fits(row[name], wanted) for name, wanted in goal["where"].items())]
    wrong = sum(row["correct"] is False for row in matching)
    if wrong:
        return result("missed", None, len(matching), f"{wrong} with a wrong result")
    quiet = [row for row in matching if row["noisy"] is False]
    found = [(row["peer_ratio"] or {}).get(goal["peer"]) if "peer" in goal else row[goal["field"]] for row in quiet]
    values = [value for value in found if value is not None]
    note = f"{len(matching) - len(quiet)} noisy, left out" if len(quiet) < len(matching) else ""
    if not values:
        return result("unmeasured", None, 0, note)
    extremes = {"min": min, "max": max}
    value = extremes[goal["statistic"]](values) if goal["statistic"] in extremes else _geometric_mean(values)
    kept = value >= bound if "at_least" in goal else value <= bound
    return result("met" if kept else "missed", value, len(values), note)


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return value is not None and wanted.get("min", value) <= value <= wanted.get("max", value)
    if isinstance(wanted, list) and not isinstance(value, list):
        return value in wanted
    return bool(value == wanted)


def _validate(goal: Goal) -> None:
    label = f"goal {goal.get('name', '(without a name)')!r}"
    choices = [{"peer", "field"}, {"at_least", "at_most"}]
    if set(goal).difference(*choices, {"reason"}) != {"name", "where", "statistic"} or any(
        len(choice & set(goal)) != 1 for choice in choices
    ):
        raise ValueError(
            f"{label} has {sorted(goal)}; expected name, where, statistic, peer or field, at_least or at_most, reason"
        )
    if goal["statistic"] not in ("min", "max", "geomean"):
        raise ValueError(f"{label}: statistic is {goal['statistic']!r}; expected 'min', 'max' or 'geomean'")
    unknown = {*goal["where"], goal.get("field", "op")} - set(FIELDS)
    if unknown:
        raise ValueError(f"{label}: rows have no field {', '.join(sorted(unknown))}")
