"""The first alarm of a dialogue is what a queue of people sees: when it comes, and whether it should."""

from collections.abc import Sequence

from ._inputs import Labels, check_pairs


def alarm_report(labels: Labels, preds: Labels) -> dict[str, float | None]:
    """Judge the first predicted handoff of each dialogue.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        preds: The same for predictions.

    Returns:
        `first_alarm_delay`, mean turns from the first gold handoff to the first alarm (below 0 is early) where a
        dialogue has both; `false_alarm_rate`, the share of dialogues without a gold handoff that raise one;
        `miss_rate`, the share of those with one that raise none; `containment_rate`, the share of all dialogues that
        raise none. None where there is no such dialogue.

    Raises:
        ValueError: As `golden_transfer`.

    Example:
        >>> report = alarm_report([[0, 1, 0], [0, 0], [1]], [[0, 0, 1], [1, 0], [0]])
        >>> report["first_alarm_delay"], report["false_alarm_rate"], report["miss_rate"]
        (1.0, 1.0, 0.5)
    """
    check_pairs(labels, preds)
    pairs = [(_first(y), _first(p)) for y, p in zip(labels, preds, strict=True)]
    return {
        "first_alarm_delay": _mean([p - y for y, p in pairs if y is not None and p is not None]),
        "false_alarm_rate": _mean([p is not None for y, p in pairs if y is None]),
        "miss_rate": _mean([p is None for y, p in pairs if y is not None]),
        "containment_rate": _mean([p is None for _, p in pairs]),
    }


def _first(row: Sequence[int]) -> int | None:
    return next((turn for turn, value in enumerate(row) if value), None)


def _mean(values: list[int] | list[bool]) -> float | None:
    return sum(values) / len(values) if values else None
