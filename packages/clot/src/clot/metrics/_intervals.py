"""Intervals over test items, drawn again by prompt, dialogue or contest."""

from collections.abc import Hashable, Sequence

import numpy as np


def bootstrap(
    totals: np.ndarray, counts: np.ndarray, *, level: float, draws: int, seed: int
) -> tuple[float, float] | None:
    """Percentile interval of sum(totals) / sum(counts) when whole groups are drawn again; None for fewer than two."""
    if len(totals) < 2:
        return None
    rng = np.random.default_rng(seed)
    ratios = np.empty(draws)
    for start in range(0, draws, 500):  # keeps the table of drawn groups small
        drawn = rng.integers(len(totals), size=(min(500, draws - start), len(totals)))
        ratios[start : start + len(drawn)] = totals[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def by_group(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each group, groups in the order of their appearance."""
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(group, len(places)) for group in groups])
    totals, counts = np.zeros(len(places)), np.zeros(len(places))
    np.add.at(totals, index, np.asarray(values, dtype=float))
    np.add.at(counts, index, 1)
    return totals, counts


def mean_interval(
    values: Sequence[float],
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Give the bootstrap interval of a mean over test items.

    Args:
        values: One number an item.
        groups: The prompt, contest or the like of each item; whole groups are drawn, for items of one group are alike.
            None makes each item a group.
        level: Its coverage, between 0 and 1.
        draws: Number of draws.
        seed: Seed of the draws.

    Returns:
        (low, high), or None where there are fewer than two groups.

    Raises:
        ValueError: The numbers of values and groups differ, or an argument is out of range.

    Example:
        >>> low, high = mean_interval([0, 1] * 50)
        >>> 0.3 < low < 0.5 < high < 0.7
        True
    """
    if groups is not None and len(groups) != len(values):
        raise ValueError(f"{len(groups)} groups for {len(values)} values; expected one for each")
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level is {level} and draws {draws}; expected 0 < level < 1 and draws >= 1")
    if not values:
        return None
    totals, counts = by_group(values, range(len(values)) if groups is None else groups)
    return bootstrap(totals, counts, level=level, draws=draws, seed=seed)
