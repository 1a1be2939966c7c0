"""Checks of nested labels, predictions and scores; every message names the dialogue and the turn."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = Sequence[Sequence[int]]
Scores = Sequence[Sequence[float]]


def check_pairs(labels: Labels, preds: Labels) -> None:
    """Refuse labels and predictions that do not belong together, or are not 0 or 1."""
    if len(labels) == 0:
        raise ValueError("there is no dialogue")
    check_lengths(labels, preds, "predictions")
    for name, rows in (("label", labels), ("prediction", preds)):
        for index, row in enumerate(rows):
            for turn, value in enumerate(row):
                if value not in (0, 1):
                    raise ValueError(f"dialogue {index}, turn {turn}: the {name} is {value!r}, not 0 or 1")


def check_scores(labels: Labels, scores: Scores) -> None:
    """Refuse scores that do not belong to the labels, and those that are no numbers."""
    if len(labels) == 0:
        raise ValueError("there is no dialogue")
    check_lengths(labels, scores, "scores")
    check_finite(scores)


def check_finite(scores: Scores) -> None:
    """Refuse NaN and infinite scores."""
    for index, row in enumerate(scores):
        for turn, score in enumerate(row):
            if not math.isfinite(score):
                shown = "NaN" if math.isnan(score) else score
                raise ValueError(f"dialogue {index}, turn {turn}: the score is {shown}; scores are finite numbers")


def check_lengths(labels: Labels, other: Sequence[Sequence[Any]], name: str) -> None:
    """Refuse rows of unlike lengths, and empty ones."""
    if len(labels) != len(other):
        raise ValueError(f"there are labels of {len(labels)} dialogues and {name} of {len(other)}")
    for index, (one, two) in enumerate(zip(labels, other, strict=True)):
        if len(one) == 0:
            raise ValueError(f"dialogue {index} has no turn")
        if len(one) != len(two):
            raise ValueError(f"dialogue {index}: there are {len(one)} labels and {len(two)} {name}")


def flat(rows: Sequence[Sequence[Any]]) -> NDArray[Any]:
    """All turns of all dialogues in a row."""
    return np.concatenate([np.asarray(row) for row in rows])
