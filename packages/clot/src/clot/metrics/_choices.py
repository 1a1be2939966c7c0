"""Choices: exact sets, what chance gives, and how much could be read."""

import math
from collections.abc import Sequence

Choice = tuple[int, ...] | None


def choice_accuracy(choices: Sequence[Choice], answers: Sequence[Sequence[int]], *, parsed_only: bool = False) -> float:
    """Give the share of questions whose chosen options are exactly the right ones.

    A choice that could not be read is None and counts as wrong, as in the paper; the share of those that could be read,
    `parse_rate`, belongs beside it.

    Args:
        choices: For each question the chosen positions in any order, or None.
        answers: For each question the right positions.
        parsed_only: Leave out the questions whose choice is None.

    Returns:
        From 0 to 1; nan where no question is left.

    Raises:
        ValueError: There are not as many answers as choices, or an answer is empty.

    Example:
        >>> choice_accuracy([(1,), (0, 2), None, (0,)], [(1,), (2, 0), (0,), (1,)])
        0.5
    """
    if len(choices) != len(answers):
        raise ValueError(f"{len(choices)} choices for {len(answers)} answers; expected one for each")
    for at, answer in enumerate(answers):
        if not answer:
            raise ValueError(f"question {at} has no right option; leave it out")
    right = [
        choice is not None and sorted(choice) == sorted(answer)
        for choice, answer in zip(choices, answers, strict=True)
        if not (parsed_only and choice is None)
    ]
    return sum(right) / len(right) if right else math.nan


def parse_rate(choices: Sequence[Choice]) -> float:
    """Give the share of choices that could be read, or nan without any.

    Example:
        >>> parse_rate([(1,), None])
        0.5
    """
    return sum(one is not None for one in choices) / len(choices) if choices else math.nan


def chance(n_options: int, n_right: int = 1) -> float:
    """Give the accuracy of guessing: 1 / C(n_options, n_right).

    Args:
        n_options: Number of options.
        n_right: How many of them are to be chosen.

    Returns:
        A probability.

    Raises:
        ValueError: Not 1 <= n_right < n_options.

    Example:
        >>> chance(5, 2)
        0.1
    """
    if not 1 <= n_right < n_options:
        raise ValueError(f"n_right is {n_right} of {n_options} options; expected 1 <= n_right < n_options")
    return 1 / math.comb(n_options, n_right)


def wilson(successes: float, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """Give Wilson's interval of a share, which stays within 0 and 1 and is useful at both ends.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Args:
        successes: How many, from 0 to ``count``; fractions count.
        count: Of how many.
        level: Its coverage, between 0 and 1.

    Returns:
        (low, high); (0, 1) for nothing.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> print("{:.3f} {:.3f}".format(*wilson(8, 10)))
        0.490 0.943
    """
    if not 0 <= successes <= count or not 0 < level < 1:
        raise ValueError(f"{successes} of {count} at level {level}; expected 0 <= successes <= count and 0 < level < 1")
    if count == 0:
        return 0.0, 1.0
    from statistics import NormalDist  # not at import: it brings fractions and decimal

    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low, high = (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)
    return (0.0 if successes == 0 else max(0.0, low)), (1.0 if successes == count else min(1.0, high))
