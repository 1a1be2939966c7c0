"""Off-policy evaluation: what another handoff policy would have cost, from logs of the one that ran."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._types import Dialogue

__all__ = ["Estimate", "Logs", "evaluate_policy"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Logs:
    """Logged decisions, one a turn.

    Args:
        action: `(N,)`, 1 handed over, 0 did not.
        propensity: `(N,)`, the probability with which that was done, in (0, 1].
        cost: `(N,)`, the cost that was seen.
        group: `(N,)`, the number of the dialogue that each turn belongs to.

    Raises:
        ValueError: The lengths differ, there is no decision, or a value is outside its range.
    """

    action: NDArray[np.int64]
    propensity: Array
    cost: Array
    group: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, dtype in (("action", np.int64), ("propensity", float), ("cost", float), ("group", np.int64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        sizes = {name: getattr(self, name).shape for name in ("action", "propensity", "cost", "group")}
        if len(set(sizes.values())) != 1 or self.action.ndim != 1 or len(self.action) == 0:
            raise ValueError(f"the logs must hold four rows of the same length, at least 1; they have {sizes}")
        bad = ~((self.propensity > 0) & (self.propensity <= 1))
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(f"decision {at}: propensity is {self.propensity[at]}; it must lie in (0, 1]")
        if not np.isin(self.action, (0, 1)).all():
            raise ValueError("an action is neither 0 (no handoff) nor 1 (handoff)")
        if not np.isfinite(self.cost).all():
            raise ValueError(f"decision {int((~np.isfinite(self.cost)).argmax())}: the cost is not finite")

    @classmethod
    def from_dialogues(cls, dialogues: Sequence[Dialogue]) -> Logs:
        """Collect the logged decisions of dialogues, turn by turn.

        Raises:
            ValueError: A turn lacks action, propensity or cost.
        """
        rows = []
        for number, dialogue in enumerate(dialogues):
            for at, turn in enumerate(dialogue.turns):
                if turn.action is None or turn.propensity is None or turn.cost is None:
                    where = f"dialogue {dialogue.id!r}, turn {at}"
                    raise ValueError(f"{where}: off-policy evaluation needs its action, propensity and cost")
                rows.append((turn.action, turn.propensity, turn.cost, number))
        action, propensity, cost, group = np.array(rows, dtype=float).reshape(-1, 4).T
        return cls(action.astype(np.int64), propensity, cost, group.astype(np.int64))


@dataclass(frozen=True)
class Estimate:
    """The mean cost of a decision under a policy, with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end of the interval.
        high: Upper end.
        effective: Effective number of decisions, (sum w)^2 / sum w^2 of the importance weights.
    """

    value: float
    low: float
    high: float
    effective: float


def evaluate_policy(
    logs: Logs,
    policy: ArrayLike,
    *,
    estimator: Literal["ips", "snips", "dr"] = "dr",
    predicted: ArrayLike | None = None,
    max_weight: float | None = None,
) -> Estimate:
    """Estimate the mean cost of a decision if `policy` had decided.

    With the weight w = pi(a | x) / mu(a | x) of the action that was taken:
    ips mean(w c), snips sum(w c) / sum(w), dr mean(sum_h pi(h | x) f(x, h) + w (c - f(x, a))).
    The interval is the normal one with a variance over dialogues, whose turns are not independent.

    Args:
        logs: What was done, with which probability, at what cost.
        policy: `(N,)`, the probability with which the policy hands over at each decision, in [0, 1].
        estimator: Which of the three.
        predicted: `(N, 2)`, predicted costs f(x, 0), f(x, 1), fitted on other dialogues; for `dr` only.
        max_weight: Larger weights are cut to it, a bias for less variance; None cuts none.

    Returns:
        The estimate. With fewer than two dialogues the interval is infinite.

    Raises:
        ValueError: Lengths differ, a probability is outside [0, 1], or predictions are missing, not finite or not asked
            for.

    Example:
        >>> logs = Logs([0, 1], [0.5, 0.5], [3.0, 1.0], [0, 1])
        >>> evaluate_policy(logs, [1.0, 1.0], estimator="snips").value
        1.0

    The paper: M. Dudik et al., *Doubly Robust Policy Evaluation and Learning*, ICML 2011, arXiv 1103.4601.
    """
    hands_over = np.asarray(policy, dtype=float)
    if hands_over.shape != logs.action.shape or not ((hands_over >= 0) & (hands_over <= 1)).all():
        raise ValueError(
            f"policy must hold {len(logs.action)} probabilities in [0, 1]; its shape is {hands_over.shape}"
        )
    if max_weight is not None and not max_weight > 0:
        raise ValueError(f"max_weight is {max_weight}; give a number above 0")
    both = np.stack([1 - hands_over, hands_over], 1)
    weight = np.take_along_axis(both, logs.action[:, None], 1)[:, 0] / logs.propensity
    if max_weight is not None:
        weight = np.minimum(weight, max_weight)
    if estimator not in ("ips", "snips", "dr"):
        raise ValueError(f"estimator is {estimator!r}; it must be ips, snips or dr")
    if (estimator == "dr") != (predicted is not None):
        raise ValueError(f"predicted costs belong to the estimator dr and to it alone; the estimator is {estimator!r}")
    square = float((weight**2).sum())
    effective = float(weight.sum()) ** 2 / square if square else 0.0
    if estimator == "snips":
        total = float(weight.sum())
        if total == 0:
            raise ValueError("the logs hold no action that the policy would take; snips has nothing to average")
        value = float((weight * logs.cost).sum()) / total
        terms = weight * (logs.cost - value) * len(weight) / total
        return _estimate(value, terms, logs.group, effective)
    if predicted is None:
        terms = weight * logs.cost
    else:
        costs = np.asarray(predicted, dtype=float)
        if costs.shape != both.shape or not np.isfinite(costs).all():
            raise ValueError(f"predicted must be finite and of shape {both.shape}; its shape is {costs.shape}")
        taken = np.take_along_axis(costs, logs.action[:, None], 1)[:, 0]
        terms = (both * costs).sum(1) + weight * (logs.cost - taken)
    value = float(terms.mean())
    return _estimate(value, terms - value, logs.group, effective)


def _estimate(value: float, terms: Array, group: NDArray[np.int64], effective: float) -> Estimate:
    """The interval from centred terms: their sums over dialogues vary, their mean is the estimate's error."""
    _, inverse = np.unique(group, return_inverse=True)
    sums = np.bincount(inverse, weights=terms)
    count = len(sums)
    if count < 2:
        return Estimate(value, -math.inf, math.inf, effective)
    spread = math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(terms)
    return Estimate(value, value - 1.959964 * spread, value + 1.959964 * spread, effective)
