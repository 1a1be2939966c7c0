"""Pairs of answers of which people demonstrably prefer one."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ._intervals import bootstrap


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """How often scores and people prefer the same answer.

    Attributes:
        accuracy: Share of the separated pairs whose better answer has the higher score, ties counting half; nan
            without any pair.
        interval: Bootstrap interval with whole groups drawn again, or None for fewer than two groups.
        pairs: Number of separated pairs.
        possible: Number of pairs within groups.
        groups: Number of groups that have a separated pair.
    """

    accuracy: float
    interval: tuple[float, float] | None
    pairs: int
    possible: int
    groups: int


def separated_pairs(
    means: Sequence[float], errors: Sequence[float], groups: Sequence[Hashable], *, z: float = 2.0
) -> list[tuple[int, int]]:
    """Find the pairs within a group whose mean ratings differ beyond their standard errors.

    abs(m1 - m2) > z sqrt(se1^2 + se2^2)

    Args:
        means: Mean rating of each answer.
        errors: Its standard error, at least 0.
        groups: Its prompt or contest.
        z: How many standard errors of the difference, at least 0.

    Returns:
        (better, worse) positions, in the order of the first and then of the second answer's position.

    Raises:
        ValueError: The lengths differ or a number is not usable.

    Example:
        >>> separated_pairs([1.5, 1.9, 1.6], [0.1, 0.1, 0.1], ["a", "a", "a"])
        [(1, 0), (1, 2)]
    """
    better, worse = _separated(means, errors, groups, z)
    return list(zip(better.tolist(), worse.tolist(), strict=True))


def pairwise_accuracy(
    scores: Sequence[float],
    means: Sequence[float],
    errors: Sequence[float],
    groups: Sequence[Hashable],
    *,
    z: float = 2.0,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> PairAccuracy:
    """Give the share of separated pairs that scores put in people's order. Guessing gives one half.

    Args:
        scores: Score of each answer; higher is better. Only those within a group are compared.
        means: Mean rating of each answer.
        errors: Its standard error.
        groups: Its prompt or contest; the bootstrap draws whole groups.
        z: As in `separated_pairs`.
        level: Coverage of the interval.
        draws: Number of bootstrap draws.
        seed: Seed of the draws.

    Returns:
        Accuracy, interval and counts.

    Raises:
        ValueError: The lengths differ or a number is not usable.

    Example:
        >>> found = pairwise_accuracy([3, 1, 1], [1.9, 1.5, 1.1], [0.1] * 3, ["a"] * 3)
        >>> print(f"{found.accuracy:.3f} of {found.pairs} pairs")
        0.833 of 3 pairs
    """
    if len(scores) != len(means):
        raise ValueError(f"{len(scores)} scores for {len(means)} ratings; expected one for each")
    values = np.asarray(scores, dtype=float)
    if np.isnan(values).any():
        raise ValueError(f"the score of answer {int(np.isnan(values).argmax())} is nan")
    better, worse = _separated(means, errors, groups, z)
    right = (values[better] > values[worse]) + 0.5 * (values[better] == values[worse])
    _, labels = np.unique(_places(groups)[better], return_inverse=True)
    count = int(labels.max()) + 1 if len(labels) else 0
    totals = np.bincount(labels, weights=right, minlength=count)
    counts = np.bincount(labels, minlength=count).astype(float)
    sizes = np.bincount(_places(groups)) if len(groups) else np.zeros(0, dtype=int)
    return PairAccuracy(
        accuracy=float(right.mean()) if len(right) else math.nan,
        interval=bootstrap(totals, counts, level=level, draws=draws, seed=seed),
        pairs=len(right),
        possible=int((sizes * (sizes - 1) // 2).sum()),
        groups=count,
    )


def _places(groups: Sequence[Hashable]) -> np.ndarray:
    found: dict[Hashable, int] = {}
    return np.array([found.setdefault(group, len(found)) for group in groups], dtype=int)


def _separated(
    means: Sequence[float], errors: Sequence[float], groups: Sequence[Hashable], z: float
) -> tuple[np.ndarray, np.ndarray]:
    if not len(means) == len(errors) == len(groups):
        raise ValueError(f"{len(means)} means, {len(errors)} errors and {len(groups)} groups; expected as many of each")
    mean, error = np.asarray(means, dtype=float), np.asarray(errors, dtype=float)
    if not (np.isfinite(mean).all() and np.isfinite(error).all() and (error >= 0).all() and z >= 0):
        raise ValueError("a mean or standard error is not finite, or a standard error or z is below 0")
    places = _places(groups)
    better, worse = [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)]
    for group in range(int(places.max()) + 1 if len(places) else 0):
        members = np.flatnonzero(places == group)
        first, second = (members[side] for side in np.triu_indices(len(members), 1))
        margin = mean[first] - mean[second]
        apart = np.abs(margin) > z * np.hypot(error[first], error[second])
        better.append(np.where(margin > 0, first, second)[apart])
        worse.append(np.where(margin > 0, second, first)[apart])
    return np.concatenate(better), np.concatenate(worse)
