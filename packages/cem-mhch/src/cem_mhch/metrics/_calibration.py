"""Whether a probability of 0.7 is right in 70 of 100 cases."""

from dataclasses import dataclass

import numpy as np

from ._inputs import Labels, Scores, check_pairs, check_scores, flat


@dataclass(frozen=True)
class Reliability:
    """One bin of a reliability diagram: its mean probability, the share of transferable turns, the number of turns."""

    probability: float
    frequency: float
    count: int


def reliability(labels: Labels, scores: Scores, *, bins: int = 10) -> list[Reliability]:
    """Group turns by their probability, in bins of equal width; empty bins are left out.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        scores: The same for probabilities of a handoff, in [0, 1].
        bins: Number of bins, at least 1.

    Raises:
        ValueError: As `handoff_report`, or a score outside [0, 1], or fewer than one bin.

    Example:
        >>> reliability([[0, 1, 1]], [[0.1, 0.9, 0.8]], bins=2)[0]
        Reliability(probability=0.1, frequency=0.0, count=1)
    """
    check_pairs(labels, labels)
    check_scores(labels, scores)
    if bins < 1:
        raise ValueError(f"bins is {bins}; give at least 1")
    gold, score = flat(labels).astype(float), flat(scores).astype(float)
    if not ((score >= 0) & (score <= 1)).all():
        raise ValueError(f"a score is {score[(score < 0) | (score > 1)][0]}; probabilities lie in [0, 1]")
    place = np.minimum((score * bins).astype(int), bins - 1)
    found = [place == number for number in range(bins)]
    return [
        Reliability(float(score[one].mean()), float(gold[one].mean()), int(one.sum())) for one in found if one.any()
    ]


def calibration_error(labels: Labels, scores: Scores, *, bins: int = 10) -> float:
    """Expected calibration error, ``sum_b n_b / n |mean probability - frequency|``.

    Args:
        labels: As in `reliability`.
        scores: As in `reliability`.
        bins: As in `reliability`.

    Example:
        >>> round(calibration_error([[0, 1]], [[0.1, 0.9]]), 6)
        0.1
    """
    rows = reliability(labels, scores, bins=bins)
    total = sum(row.count for row in rows)
    return sum(row.count * abs(row.probability - row.frequency) for row in rows) / total
