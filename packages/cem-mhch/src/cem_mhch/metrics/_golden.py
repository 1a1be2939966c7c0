"""Golden transfer within tolerance, as published, and what it lacks: a recall and the mean of both."""

from collections.abc import Sequence

import numpy as np

from ._inputs import Labels, check_pairs


def golden_transfer(
    labels: Labels, preds: Labels, *, tolerance: int = 1, lamb: float = 0.0, gold_only: bool = False
) -> float:
    """Golden transfer within tolerance: how near predicted handoffs are to gold ones, mean over dialogues.

    Without a gold position 1 or 0 for no prediction or some; without a predicted one 0; else
    mean_{p in P} max_{q in Q} exp(-(p - q)^2 / ((1 - lamb sign(p - q)) 2 (t + 1e-7)^2)).

    The published number has two flaws: never handing over gets the share of dialogues without a gold position, and no
    term asks whether every gold position was found. `gold_only` and `golden_transfer_f` mend them.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        preds: The same for predictions.
        tolerance: t, an int of at least 1, in turns.
        lamb: In (-1, 1); above 0 it is stricter on predictions that come late.
        gold_only: Leave out the dialogues without a gold position.

    Returns:
        A number in [0, 1].

    Raises:
        TypeError: The tolerance is no int.
        ValueError: There is no dialogue (left), one has no turn, lengths differ, a label is not 0 or 1, or an option is
            out of its range.

    Example:
        >>> round(golden_transfer([[0, 1, 0]], [[0, 0, 1]], tolerance=1), 4)
        0.6065

    The paper: J. Liu et al., *Time to Transfer: Predicting and Evaluating Machine-Human Chatting Handoff*, AAAI 2021,
    arXiv 2012.07610.
    """
    check_options(tolerance, lamb)
    check_pairs(labels, preds)
    pairs = [(y, p) for y, p in zip(labels, preds, strict=True) if not gold_only or any(y)]
    if not pairs:
        raise ValueError("no dialogue has a gold handoff, so that gold_only leaves none")
    return sum(_nearness(y, p, tolerance, lamb) for y, p in pairs) / len(pairs)


def golden_transfer_recall(labels: Labels, preds: Labels, *, tolerance: int = 1, lamb: float = 0.0) -> float:
    """How near gold handoffs are to predicted ones: `golden_transfer` with the roles of P and Q exchanged.

    Without a gold position 1 or 0 for no prediction or some; without a predicted one 0; else
    mean_{q in Q} max_{p in P} exp(-(p - q)^2 / ((1 - lamb sign(p - q)) 2 (t + 1e-7)^2)).

    Args:
        labels: As in `golden_transfer`.
        preds: As in `golden_transfer`.
        tolerance: As in `golden_transfer`.
        lamb: As in `golden_transfer`.

    Example:
        >>> round(golden_transfer_recall([[1, 0, 0, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 0, 0, 0]]), 4)
        0.5
    """
    check_options(tolerance, lamb)
    check_pairs(labels, preds)
    found = [_nearness(p, y, tolerance, -lamb) for y, p in zip(labels, preds, strict=True)]
    return sum(found) / len(found)


def golden_transfer_f(labels: Labels, preds: Labels, *, tolerance: int = 1, lamb: float = 0.0) -> float:
    """Harmonic mean of golden transfer and its recall, dialogue by dialogue, then the mean.

    Args:
        labels: As in `golden_transfer`.
        preds: As in `golden_transfer`.
        tolerance: As in `golden_transfer`.
        lamb: As in `golden_transfer`.

    Example:
        >>> round(golden_transfer_f([[1, 0, 0, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 0, 0, 0]]), 4)
        0.6667
    """
    check_options(tolerance, lamb)
    check_pairs(labels, preds)
    total = 0.0
    for y, p in zip(labels, preds, strict=True):
        near, found = _nearness(y, p, tolerance, lamb), _nearness(p, y, tolerance, -lamb)
        total += 2 * near * found / (near + found) if near + found else 0.0
    return total / len(labels)


def check_options(tolerance: int, lamb: float) -> None:
    """Refuse a tolerance that is no int of at least 1, and |lamb| >= 1."""
    if not isinstance(tolerance, int) or isinstance(tolerance, bool):
        raise TypeError(f"tolerance is {tolerance!r}; it must be an int of turns")
    if tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; it must be at least 1")
    if not -1 < lamb < 1:
        raise ValueError(f"lamb is {lamb}; it must lie in (-1, 1)")


def _nearness(labels: Sequence[int], preds: Sequence[int], tolerance: int, lamb: float) -> float:
    gold, said = np.flatnonzero(labels), np.flatnonzero(preds)
    if len(gold) == 0 or len(said) == 0:
        return float(len(said) == len(gold))
    apart = said[:, None] - gold[None, :]
    width = (1 - lamb * np.sign(apart)) * 2 * (tolerance + 1e-7) ** 2
    return float(np.exp(-(apart**2) / width).max(1).mean())
