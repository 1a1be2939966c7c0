"""The results of all seeds as one table, and the verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sail_core.report import Verdict, verdict

from sur_adapter._paired import paired

from ._check import CHANCE
from ._experiment import BASE, Result
from ._world import Kind

Found = Mapping[tuple[Kind, int], Mapping[str, Result]]
ADAPTER = "adapter"


@dataclass(frozen=True)
class Row:
    """Accuracies of one suite.

    Attributes:
        chance: Of guessing.
        values: By system, one value a seed.
    """

    chance: float
    values: dict[str, list[float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, float | list[float]]:
        """Give the row for a report."""
        return {"chance": self.chance, **self.values}


def tabulate(found: Found) -> dict[str, Row]:
    """Accuracies by suite, in the order in which they were checked."""
    rows: dict[str, Row] = {}
    for systems in found.values():
        for name, result in systems.items():
            for suite in result.check.hits:
                row = rows.setdefault(suite, Row(CHANCE[suite]))
                row.values.setdefault(name, []).append(result.check.accuracy(suite))
    return rows


def table_of(rows: Mapping[str, Row]) -> str:
    """Mean accuracies in percent for a terminal."""
    systems = list(dict.fromkeys(name for row in rows.values() for name in row.values))
    lines = [["right pictures, %", "chance", *systems]]
    for suite, row in rows.items():
        means = [sum(row.values[name]) / len(row.values[name]) if name in row.values else None for name in systems]
        lines.append([suite, f"{100 * row.chance:.0f}", *("-" if one is None else f"{100 * one:.1f}" for one in means)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def verdicts(found: Found) -> list[Verdict]:
    """The goals of the toy world, and every ablation against the adapter.

    Several seeds are judged by the paired Student-t interval over them, a single one by the bootstrap over prompts.
    """
    judged = [
        _judge(found, "mention", ADAPTER, BASE, "the adapter adds 20 points on mention prompts", ">= 0.20", 0.2),
        *(
            _judge(found, suite, ADAPTER, BASE, f"{suite} prompts lose at most 3 points", "> -0.03", -0.03)
            for suite in ("complex", "complex, colour")
        ),
        *(
            _judge(found, suite, ADAPTER, BASE, f"the adapter adds on {suite} prompts", "> 0", 0.0)
            for suite in ("reasoning", "reasoning, new phrases", "colour", "counting")
        ),
        _judge(
            found, "complex, count", ADAPTER, BASE, "complex, count prompts lose at most 3 points", "> -0.03", -0.03
        ),
    ]
    systems = dict.fromkeys(name for own in found.values() for name in own)
    for name in systems:
        if name not in (BASE, ADAPTER):
            for suite in ("mention", "complex"):
                claim = f"the adapter is above the one with {name} on {suite} prompts"
                judged.append(_judge(found, suite, ADAPTER, name, claim, "> 0", 0.0))
    return [one for one in judged if one is not None]


def _judge(found: Found, suite: str, ours: str, other: str, claim: str, expected: str, null: float) -> Verdict | None:
    pairs = [
        (own[ours].check, own[other].check)
        for own in found.values()
        if ours in own and other in own and suite in own[ours].check.hits
    ]
    if not pairs or len(pairs) < sum(suite in own[BASE].check.hits for own in found.values()):
        return None  # a seed that a stopped run lacks is not left out in silence
    if len(pairs) > 1:
        return verdict(claim, expected, [a.accuracy(suite) - b.accuracy(suite) for a, b in pairs], null=null)
    (mine, theirs) = pairs[0]
    one = paired([float(hit) for hit in theirs.hits[suite]], [float(hit) for hit in mine.hits[suite]])
    holds = True if one.low > null else False if one.high < null else None
    return Verdict(claim, expected, one.difference, (one.low, one.high), holds)
