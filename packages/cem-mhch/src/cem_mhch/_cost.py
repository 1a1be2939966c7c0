"""The labour cost of a handoff and of its absence, predicted from logs in which one of them was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """What each decision costs, in a unit of the user's choice (minutes, money).

    cost(y, a): 0 for leaving a normal turn alone, `missed_handoff` for leaving a transferable one alone,
    `handoff + false_handoff` for handing over a normal one, `handoff` for handing over a transferable one.

    Args:
        false_handoff: Of a handoff that was not needed; with the other two at 0 it is the papers' error cost.
        missed_handoff: Of a needed handoff that did not come.
        handoff: Of any handoff.

    Raises:
        ValueError: A cost is not a finite number.

    Example:
        >>> CostModel(false_handoff=1.0, missed_handoff=3.0).potential(torch.tensor([0, 1])).tolist()
        [[0.0, 1.0], [3.0, 0.0]]
    """

    false_handoff: float = 1.0
    missed_handoff: float = 0.0
    handoff: float = 0.0

    def __post_init__(self) -> None:
        for name in ("false_handoff", "missed_handoff", "handoff"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}: a cost is a finite number")

    def potential(self, handoff: Tensor) -> Tensor:
        """Both potential costs of turns whose label is known.

        Args:
            handoff: `(...)`, 0 normal or 1 transferable.

        Returns:
            `(..., 2)`: the costs of do(no handoff) and of do(handoff).
        """
        needed = handoff.to(torch.get_default_dtype())
        return torch.stack([self.missed_handoff * needed, self.handoff + self.false_handoff * (1 - needed)], -1)


class CostSimulator(nn.Module):
    """f(x, a): predicted labour cost of both actions, `(..., d)` to `(..., 2)`.

    Args:
        hidden_size: Width d of the host's hidden state, which is read without gradient.
        size: Width of the one hidden layer.
    """

    def __init__(
        self,
        hidden_size: int,
        size: int = 64,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden_size, size, device=device, dtype=dtype)
        self.outer = nn.Linear(size, 2, device=device, dtype=dtype)

    def forward(self, hidden: Tensor) -> Tensor:
        """Predict both costs."""
        return self.outer(self.inner(hidden.detach()).relu())  # type: ignore[no-any-return]


def inverse_propensity_loss(
    predicted: Tensor, action: Tensor, propensity: Tensor, cost: Tensor, *, max_weight: float = 20.0
) -> Tensor:
    """Squared error on the action taken, weighted so that it estimates the error over both actions.

    mean of min(1 / pi(a | x), w_max) (f(x, a) - c)^2

    Args:
        predicted: `(N, 2)`, f(x, 0) and f(x, 1).
        action: `(N,)`, the action taken, 0 or 1.
        propensity: `(N,)`, the probability with which it was taken, in (0, 1].
        cost: `(N,)`, the cost that was seen.
        max_weight: The largest weight, >= 1: a bias for less variance.

    Returns:
        A scalar; 0 where N = 0.

    Raises:
        ValueError: A propensity outside (0, 1], an action that is not 0 or 1, or a cost that is not finite.

    Example:
        >>> inverse_propensity_loss(
        ...     torch.tensor([[0.0, 1.0]]), torch.tensor([1]), torch.tensor([0.5]), torch.tensor([3.0])
        ... ).item()
        8.0
    """
    _check(action, propensity, cost)
    error = predicted.gather(1, action.long().unsqueeze(1)).squeeze(1) - cost
    return ((1 / propensity).clamp(max=max_weight) * error.square()).sum() / max(1, len(action))


def doubly_robust(predicted: Tensor, action: Tensor, propensity: Tensor, cost: Tensor) -> Tensor:
    """Estimate both potential costs of every turn; unbiased where the propensities or the predictions are right.

    c(h) = f(x, h) + 1[a = h] / pi(h | x) (c - f(x, h)). With f = 0 it is the inverse propensity estimate.

    Args:
        predicted: `(N, 2)`, fitted on other turns than these.
        action: `(N,)`, the action taken, 0 or 1.
        propensity: `(N,)`, the probability with which it was taken, in (0, 1].
        cost: `(N,)`, the cost that was seen.

    Returns:
        `(N, 2)`; the mean over the turns estimates the mean costs of do(no handoff) and do(handoff).

    Raises:
        ValueError: As `inverse_propensity_loss`.

    Example:
        >>> doubly_robust(
        ...     torch.tensor([[0.0, 1.0]]), torch.tensor([1]), torch.tensor([0.5]), torch.tensor([3.0])
        ... ).tolist()
        [[0.0, 5.0]]
    """
    _check(action, propensity, cost)
    taken = torch.stack([action == 0, action == 1], 1)
    return predicted + taken * ((cost.unsqueeze(1) - predicted) / propensity.unsqueeze(1))


def _check(action: Tensor, propensity: Tensor, cost: Tensor) -> None:
    if not bool(((propensity > 0) & (propensity <= 1)).all()):
        worst = propensity[~((propensity > 0) & (propensity <= 1))][0].item()
        raise ValueError(f"a propensity is {worst}: the probability of an action that was taken lies in (0, 1]")
    if not bool(((action == 0) | (action == 1)).all()):
        raise ValueError("an action is neither 0 (no handoff) nor 1 (handoff)")
    if not bool(torch.isfinite(cost).all()):
        raise ValueError("a cost that was seen is not finite")
