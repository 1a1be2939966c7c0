"""How well scores order turns, whatever the threshold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._inputs import Labels, Scores, check_pairs, check_scores, flat


def roc_auc(labels: Labels, scores: Scores) -> float | None:
    """The share of (transferable, normal) pairs of turns in the right order, ties half.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        scores: The same for probabilities of a handoff.

    Returns:
        A number in [0, 1], or None where one class is absent.

    Example:
        >>> roc_auc([[0, 1], [1]], [[0.2, 0.2], [0.9]])
        0.75
    """
    check_pairs(labels, labels)
    check_scores(labels, scores)
    return auc_of(flat(labels), flat(scores))


def pr_auc(labels: Labels, scores: Scores) -> float | None:
    """Average precision, sum_n (R_n - R_{n-1}) P_n over the distinct thresholds.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        scores: The same for probabilities of a handoff.

    Returns:
        A number in [0, 1], or None where no turn is transferable.

    Example:
        >>> round(pr_auc([[0, 1], [1]], [[0.5, 0.2], [0.9]]), 4)
        0.8333
    """
    check_pairs(labels, labels)
    check_scores(labels, scores)
    gold, score = flat(labels), flat(scores)
    if not gold.any():
        return None
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    hits = gold[order].cumsum()[last]
    precision = hits / (np.flatnonzero(last) + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])


def auc_of(gold: NDArray[Any], scores: NDArray[Any]) -> float | None:
    """`roc_auc` of flat arrays, from ranks."""
    positive = int((gold == 1).sum())
    negative = len(gold) - positive
    if not positive or not negative:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]
    return float((ranks[gold == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))
