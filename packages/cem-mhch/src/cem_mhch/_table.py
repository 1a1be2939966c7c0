"""Models beside the baselines that they must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ._types import Dialogue
from .baselines import Always, Keyword, LLMJudge, Never, Scores, TfidfLogistic
from .metrics import handoff_report, timing_report
from .metrics._inputs import Labels

_COLUMNS = (
    "f1",
    "macro_f1",
    "auc",
    "pr_auc",
    "gt1",
    "gt2",
    "gt3",
    "gt1_f",
    "first_alarm_delay",
    "miss_rate",
    "error_cost",
)


def baseline_scores(
    test: Sequence[Dialogue],
    *,
    train: Sequence[Dialogue] | None = None,
    llm: tuple[str, str] | None = None,
    max_turns: int | None = None,
) -> dict[str, Scores]:
    """Scores of the baselines by name; keyword only where there is text, TF-IDF only with training dialogues.

    Args:
        test: The dialogues to score.
        train: What the TF-IDF baseline learns from.
        llm: Address and name of a language model to judge.
        max_turns: Dialogues are cut to their first turns, None keeps all.
    """
    cut = [_cut(one, max_turns) for one in test]
    scores: dict[str, Scores] = {one.name: one.score(cut) for one in (Never(), Always())}
    if any(turn.text for one in cut for turn in one.turns):
        scores["keyword"] = Keyword().score(cut)
    if train is not None:
        scores["tfidf"] = TfidfLogistic().fit([_cut(one, max_turns) for one in train]).score(cut)
    if llm is not None:
        scores["llm"] = LLMJudge(*llm).score(cut)
    return scores


def comparison(
    labels: Labels, scores: Mapping[str, Scores], *, thresholds: Mapping[str, float] | None = None
) -> tuple[dict[str, dict[str, Any]], str]:
    """All metrics of all models, and the main ones as a table.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        scores: By model, the same for probabilities of a handoff.
        thresholds: By model; 0.5 where there is none.

    Returns:
        The metrics by model, and the table.

    Example:
        >>> rows, table = comparison([[0, 1]], {"never": [[0.0, 0.0]]})
        >>> rows["never"]["gt1"], table.splitlines()[0].split()[:3]
        (0.0, ['model', 'f1', 'macro_f1'])
    """
    rows = {}
    for name, given in scores.items():
        threshold = (thresholds or {}).get(name, 0.5)
        preds = [[int(score >= threshold) for score in row] for row in given]
        rows[name] = handoff_report(labels, preds, given) | timing_report(labels, preds, given)
    cells = [["model", *_COLUMNS]]
    cells += [[name, *(_shown(row[column]) for column in _COLUMNS)] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    return rows, "\n".join(lines)


def _shown(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"


def _cut(dialogue: Dialogue, max_turns: int | None) -> Dialogue:
    return dialogue if max_turns is None else replace(dialogue, turns=dialogue.turns[:max_turns])
