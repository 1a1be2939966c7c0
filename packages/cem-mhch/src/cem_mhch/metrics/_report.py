"""The published metrics at once, and the further ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._alarms import alarm_report
from ._calibration import calibration_error
from ._golden import golden_transfer, golden_transfer_f, golden_transfer_recall
from ._inputs import Labels, Scores, check_pairs, check_scores, flat
from ._ranking import auc_of, pr_auc


def handoff_report(labels: Labels, preds: Labels, scores: Scores) -> dict[str, Any]:
    """The published metrics at once.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        preds: The same for predictions.
        scores: The same for probabilities of a handoff.

    Returns:
        `f1` of handoffs, `macro_f1`, `auc` (None where one class is absent), `gt1`, `gt2`, `gt3`, and `error_cost`, the
        number of handoffs of normal turns.

    Raises:
        ValueError: There is no dialogue, one has no turn, lengths differ, a label is not 0 or 1, or a score is no
            finite number.

    Example:
        >>> handoff_report([[0, 1]], [[0, 1]], [[0.1, 0.9]])["auc"]
        1.0
    """
    check_pairs(labels, preds)
    check_scores(labels, scores)
    gold, said = flat(labels), flat(preds)
    handoff, normal = _f1(gold == 1, said == 1), _f1(gold == 0, said == 0)
    report: dict[str, Any] = {"f1": handoff, "macro_f1": (handoff + normal) / 2, "auc": auc_of(gold, flat(scores))}
    report |= {f"gt{t}": golden_transfer(labels, preds, tolerance=t) for t in (1, 2, 3)}
    report["error_cost"] = int(((gold == 0) & (said == 1)).sum())
    return report


def timing_report(labels: Labels, preds: Labels, scores: Scores) -> dict[str, Any]:
    """What the published metrics miss.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        preds: The same for predictions.
        scores: The same for probabilities of a handoff.

    Returns:
        `pr_auc`; for t = 1, 2, 3 `gt{t}_recall`, `gt{t}_f` and `gt{t}_gold_only` (None where no dialogue has a gold
        handoff); those of `alarm_report`; `calibration_error`, None where a score is no probability.

    Raises:
        ValueError: As `handoff_report`.

    Example:
        >>> timing_report([[0, 1], [0]], [[0, 0], [0]], [[0.1, 0.4], [0.2]])["gt1_gold_only"]
        0.0
    """
    check_pairs(labels, preds)
    report: dict[str, Any] = {"pr_auc": pr_auc(labels, scores)}
    gold = any(map(any, labels))
    for t in (1, 2, 3):
        report[f"gt{t}_recall"] = golden_transfer_recall(labels, preds, tolerance=t)
        report[f"gt{t}_f"] = golden_transfer_f(labels, preds, tolerance=t)
        report[f"gt{t}_gold_only"] = golden_transfer(labels, preds, tolerance=t, gold_only=True) if gold else None
    found = flat(scores)
    probabilities = bool(((found >= 0) & (found <= 1)).all())
    calibration = calibration_error(labels, scores) if probabilities else None
    return report | alarm_report(labels, preds) | {"calibration_error": calibration}


def _f1(gold: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    size = int(gold.sum()) + int(said.sum())
    return 2 * int((gold & said).sum()) / size if size else 0.0
