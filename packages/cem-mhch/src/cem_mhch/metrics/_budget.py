"""What a limit on handoffs costs: thresholds for a rate, the cost at a budget, the cost against the recall."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cem_mhch._cost import CostModel

from ._inputs import Labels, Scores, check_finite, check_pairs, check_scores, flat


@dataclass(frozen=True)
class BudgetPoint:
    """What one threshold gives.

    Attributes:
        budget: Handoffs allowed in 100 dialogues; None on a curve over all thresholds.
        threshold: A turn whose score is at least this is a handoff.
        recall: Share of the transferable turns that are handed over; 1 where there is none.
        cost: Mean cost of a dialogue.
    """

    budget: float | None
    threshold: float
    recall: float
    cost: float


def threshold_for_rate(scores: Scores | Sequence[float], max_handoffs_per_100: float) -> float:
    """The lowest threshold at which at most so many of 100 dialogues hand over at any of their turns.

    A dialogue hands over when the largest of its scores is at least the threshold.

    Args:
        scores: For each dialogue its turns' scores; a flat list counts every score as a dialogue of one turn.
        max_handoffs_per_100: In [0, 100].

    Raises:
        ValueError: There is no score, one is not a finite number, or the rate is outside its range.

    Example:
        >>> threshold = threshold_for_rate([[0.1, 0.9], [0.2], [0.4], [0.3]], 25)
        >>> 0.4 < threshold <= 0.9
        True
    """
    if not 0 <= max_handoffs_per_100 <= 100:
        raise ValueError(f"max_handoffs_per_100 is {max_handoffs_per_100}; it must lie in [0, 100]")
    rows = [row if isinstance(row, Sequence | np.ndarray) else [row] for row in scores]
    if not rows or not all(len(row) for row in rows):
        raise ValueError("there is no score, or a dialogue without one, to set a threshold by")
    check_finite(rows)
    highest = sorted((float(max(row)) for row in rows), reverse=True)
    allowed = int(max_handoffs_per_100 * len(rows) / 100 + 1e-9)
    return highest[-1] if allowed >= len(rows) else float(np.nextafter(highest[allowed], np.inf))


def cost_at_budget(
    labels: Labels, scores: Scores, budgets: Sequence[float], *, cost: CostModel | None = None
) -> list[BudgetPoint]:
    """The cost of the threshold that each budget of handoffs allows.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        scores: The same for scores of a handoff.
        budgets: Handoffs allowed in 100 dialogues.
        cost: The cost matrix; None counts false handoffs.

    Raises:
        ValueError: As `handoff_report` and `threshold_for_rate`.

    Example:
        >>> [point.cost for point in cost_at_budget([[0, 1], [0]], [[0.1, 0.9], [0.3]], [0, 50, 100])]
        [0.0, 0.0, 0.5]
    """
    thresholds = [threshold_for_rate(scores, budget) for budget in budgets]
    points = _points(labels, scores, thresholds, cost)
    return [BudgetPoint(budget, *row) for budget, row in zip(budgets, points, strict=True)]


def cost_recall_curve(labels: Labels, scores: Scores, *, cost: CostModel | None = None) -> list[BudgetPoint]:
    """Cost and recall of every threshold that makes a difference, from the strictest to the loosest.

    Args:
        labels: As in `cost_at_budget`.
        scores: As in `cost_at_budget`.
        cost: As in `cost_at_budget`.

    Example:
        >>> [(point.recall, point.cost) for point in cost_recall_curve([[0, 1]], [[0.3, 0.9]])]
        [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]
    """
    check_scores(labels, scores)
    levels = np.unique(flat(scores).astype(float))[::-1]
    thresholds = [float(np.nextafter(levels[0], np.inf)), *levels.tolist()]
    return [BudgetPoint(None, *row) for row in _points(labels, scores, thresholds, cost)]


def _points(
    labels: Labels, scores: Scores, thresholds: Sequence[float], cost: CostModel | None
) -> list[tuple[float, float, float]]:
    """(threshold, recall, cost of a dialogue) of each threshold."""
    check_pairs(labels, labels)
    check_scores(labels, scores)
    gold, score = flat(labels), flat(scores).astype(float)
    both = (cost or CostModel()).potential(torch.from_numpy(gold.astype(np.int64))).double().numpy()
    order = np.argsort(score)
    extra = np.concatenate([(both[:, 1] - both[:, 0])[order][::-1].cumsum()[::-1], [0.0]])
    hits = np.concatenate([gold[order][::-1].cumsum()[::-1], [0]])
    start = np.searchsorted(score[order], thresholds, side="left")
    total, positive = both[:, 0].sum(), max(1, int(gold.sum()))
    recall = hits[start] / positive if gold.any() else np.ones(len(start))
    costs = (total + extra[start]) / len(labels)
    return list(zip(thresholds, recall.tolist(), costs.tolist(), strict=True))
