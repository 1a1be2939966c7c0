"""Base against adapter on the same prompts and seeds: bootstrap over prompts, and McNemar's test.

A prompt is the unit: its seeds are averaged first and drawn together, for pictures of one prompt are not independent::

    d_i = mean over seeds of (adapter_is - base_is),   interval: quantiles of mean(d*) over resampled prompts

References:
    - McNemar: Note on the sampling error of the difference between correlated proportions or percentages. 1947.
    - Efron, Tibshirani: An Introduction to the Bootstrap. 1993.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Scores = Tensor | Sequence[float] | Sequence[Sequence[float]]


@dataclass(frozen=True)
class Paired:
    """A comparison on the same prompts and seeds.

    Attributes:
        base: Mean score of the base.
        adapter: Mean score with the adapter.
        difference: ``adapter - base``.
        low: Lower end of the bootstrap interval of the difference.
        high: Its upper end.
        prompts: How many prompts there are.
        gained: Pictures that only the adapter has right; None for scores that are not 0 or 1.
        lost: Pictures that only the base has right; None likewise.
        p: McNemar's exact p, two-sided, on one picture a prompt (the first seed); None likewise.
    """

    base: float
    adapter: float
    difference: float
    low: float
    high: float
    prompts: int
    gained: int | None
    lost: int | None
    p: float | None


def mcnemar(gained: int, lost: int) -> float:
    """Compute McNemar's exact two-sided p.

    ``p = min(1, 2 P(X <= min(b, c)))`` with X binomial(b + c, 1/2)

    Args:
        gained: Pairs that only the second has right, >= 0.
        lost: Pairs that only the first has right, >= 0.

    Returns:
        p in (0, 1]; 1 when no pair differs.

    Raises:
        ValueError: A count is negative.

    Example:
        >>> mcnemar(9, 1)
        0.021484375
    """
    if min(gained, lost) < 0:
        raise ValueError(f"counts are {gained} and {lost}; both must be at least 0")
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << n))  # whole numbers, which do not overflow


def paired(
    base: Scores,
    adapter: Scores,
    *,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Paired:
    """Compare two score tables of the same prompts and seeds.

    Args:
        base: ``(prompts, seeds)``, or ``(prompts,)``.
        adapter: The same shape.
        confidence: Of the interval, between 0 and 1.
        draws: Bootstrap samples.
        seed: Of the bootstrap.

    Returns:
        Means, their difference with its interval, and McNemar's test where all scores are 0 or 1.

    Raises:
        ValueError: The shapes differ, there are fewer than two prompts, or a score is not finite.

    Example:
        >>> found = paired([0, 0, 0, 1, 0, 0], [1, 1, 1, 1, 1, 0])
        >>> found.gained, found.lost, found.p
        (4, 0, 0.125)
        >>> round(found.difference, 3)
        0.667
    """
    a, b = (_table(values, name) for values, name in ((base, "base"), (adapter, "adapter")))
    if a.shape != b.shape:
        raise ValueError(f"the base has scores of shape {tuple(a.shape)}, the adapter {tuple(b.shape)}; pair them")
    if len(a) < 2:
        raise ValueError(f"an interval over prompts needs at least 2 prompts, {len(a)} came")
    if not 0 < confidence < 1 or draws < 100:
        raise ValueError(f"confidence is {confidence} and draws {draws}; expected between 0 and 1, and at least 100")
    d = (b - a).mean(1)
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, 2_000_000 // len(d))  # rows at a time, so that many prompts do not fill the memory
    means = torch.cat(
        [
            d[torch.randint(len(d), (min(chunk, draws - start), len(d)), generator=generator)].mean(1)
            for start in range(0, draws, chunk)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    gained = lost = p = None
    if all(bool(((one == 0) | (one == 1)).all()) for one in (a, b)):
        gained, lost = int((b > a).sum()), int((b < a).sum())
        p = mcnemar(int((b > a)[:, 0].sum()), int((b < a)[:, 0].sum()))
    return Paired(float(a.mean()), float(b.mean()), float(d.mean()), low, high, len(d), gained, lost, p)


def _table(values: Scores, name: str) -> Tensor:
    table = torch.as_tensor(values, dtype=torch.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"the {name} scores have shape {tuple(table.shape)}; expected (prompts, seeds)")
    if not bool(table.isfinite().all()):
        raise ValueError(f"the {name} scores are not all finite; leave failed pictures out by hand, and say so")
    return table
