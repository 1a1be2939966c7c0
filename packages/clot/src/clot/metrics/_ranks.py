"""Orders: discounted gain and its floor, the top, and rank correlation.

References:
    Järvelin, Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques, 2002.
    McSherry, Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores,
    2008.
    Kendall, The Treatment of Ties in Ranking Problems, 1945.
"""

import math
from collections.abc import Sequence
from itertools import groupby


def _checked(stars: Sequence[float], scores: Sequence[float] | None = None) -> list[float]:
    gains = [float(one) for one in stars]
    if not gains:
        raise ValueError("there are no stars; expected those of at least one option")
    if not all(math.isfinite(one) and one >= 0 for one in gains):
        raise ValueError(f"stars are {gains}; expected finite numbers of at least 0")
    if scores is not None:
        if len(scores) != len(gains):
            raise ValueError(f"{len(scores)} scores for {len(gains)} stars; expected one for each")
        if any(math.isnan(one) for one in scores):
            raise ValueError(f"a score is nan in {list(scores)}")
    return gains


def _discounts(count: int) -> list[float]:
    return [1 / math.log2(at + 2) for at in range(count)]


def _ideal(gains: Sequence[float]) -> float:
    ordered = sorted(gains, reverse=True)
    return math.fsum(gain * discount for gain, discount in zip(ordered, _discounts(len(ordered)), strict=True))


def ndcg(stars: Sequence[float], scores: Sequence[float]) -> float:
    """Give the normalised discounted cumulative gain of an order, with the stars as gains.

    sum of star / log2(rank + 1) over the options, divided by its largest value; options of one score share the mean of
    their gains, as in scikit-learn

    Args:
        stars: Likes of the options, at least 0.
        scores: Their scores; the highest stands first.

    Returns:
        From 0 to 1; 0.0 where all stars are 0. It is far above 0 for a random order, see `expected_random_ndcg`.

    Raises:
        ValueError: The numbers of stars and scores differ, or a number is not usable.

    Example:
        >>> print(f"{ndcg([5, 0, 1], [0.1, 0.7, 0.2]):.4f}")
        0.5560
    """
    gains = _checked(stars, scores)
    best = _ideal(gains)
    if best == 0:
        return 0.0
    order = sorted(range(len(gains)), key=lambda at: -scores[at])
    discounts = _discounts(len(gains))
    total, start = 0.0, 0
    for _, tied in groupby(order, key=lambda at: scores[at]):
        members = list(tied)
        mean = math.fsum(gains[at] for at in members) / len(members)
        total += mean * math.fsum(discounts[start : start + len(members)])
        start += len(members)
    return total / best


def expected_random_ndcg(stars: Sequence[float]) -> float:
    """Give the mean of `ndcg` over all orders, the floor that a random order reaches.

    mean(stars) * sum of 1 / log2(rank + 1), divided by the gain of the best order

    Args:
        stars: Likes of the options, at least 0.

    Returns:
        From 0 to 1; 0.0 where all stars are 0.

    Raises:
        ValueError: There are none, or one is not usable.

    Example:
        >>> print(f"{expected_random_ndcg([100, 0, 0, 0, 0]):.3f} {expected_random_ndcg([5, 4, 3, 2, 1]):.3f}")
        0.590 0.861
    """
    gains = _checked(stars)
    best = _ideal(gains)
    return math.fsum(gains) / len(gains) * math.fsum(_discounts(len(gains))) / best if best else 0.0


def normalised_ndcg(stars: Sequence[float], scores: Sequence[float]) -> float | None:
    """Give the gain above that of a random order, as a share of what could be gained.

    (ndcg - expected_random_ndcg) / (1 - expected_random_ndcg)

    Args:
        stars: Likes of the options, at least 0.
        scores: Their scores.

    Returns:
        0 for a random order on average, 1 for the best one, below 0 for worse than random; None where all stars are
        equal, for then every order is as good.

    Raises:
        ValueError: As in `ndcg`.

    Example:
        >>> print(normalised_ndcg([3, 2, 1], [3, 2, 1]), normalised_ndcg([1, 1], [0, 1]))
        1.0 None
    """
    gains = _checked(stars, scores)
    if min(gains) == max(gains):
        return None
    floor = expected_random_ndcg(gains)
    return (ndcg(gains, scores) - floor) / (1 - floor)


def top1(stars: Sequence[float], scores: Sequence[float]) -> float:
    """Give the probability that the option placed first has the most stars.

    Args:
        stars: Likes of the options, at least 0.
        scores: Their scores; among k that share the highest one, each is first with probability 1 / k.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: As in `ndcg`.

    Example:
        >>> top1([5, 0, 1], [0.4, 0.4, 0.2])
        0.5
    """
    gains = _checked(stars, scores)
    first = [gain for gain, score in zip(gains, scores, strict=True) if score == max(scores)]
    return sum(gain == max(gains) for gain in first) / len(first)


def kendall_tau(stars: Sequence[float], scores: Sequence[float]) -> float | None:
    """Give Kendall's rank correlation tau-b, which allows for ties.

    (concordant - discordant) / sqrt((pairs not tied in stars) (pairs not tied in scores))

    Args:
        stars: Likes of the options.
        scores: Their scores.

    Returns:
        From -1 to 1, or None where all stars or all scores are equal.

    Raises:
        ValueError: As in `ndcg`.

    Example:
        >>> print(f"{kendall_tau([3, 2, 1], [0.9, 0.1, 0.3]):.3f}")
        0.333
    """
    gains = _checked(stars, scores)
    balance = in_stars = in_scores = 0
    for second in range(len(gains)):
        for first in range(second):
            up = (gains[second] > gains[first]) - (gains[second] < gains[first])
            also = (scores[second] > scores[first]) - (scores[second] < scores[first])
            balance += up * also
            in_stars += up != 0
            in_scores += also != 0
    return balance / math.sqrt(in_stars * in_scores) if in_stars and in_scores else None
