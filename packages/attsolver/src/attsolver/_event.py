"""The time at which a function of the solution changes sign."""

import math
from collections.abc import Callable
from typing import Any

import torch

from ._adaptive import GROW, SAFETY, SHRINK, error_norm
from ._eager import increment, stages, weighted
from ._solution import SolverError
from ._tableaus import Tableau

Event = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Advance = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Between = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
_MOST_STEPS = 20_000


def find_event(
    advance: Advance, between: Between, event_fn: Event, t: torch.Tensor, y: torch.Tensor, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps until a component of the event function changes its sign, then bisection inside the last step.

    Args:
        advance: ``(t, y) -> (t', y')``, one step.
        between: ``(t, y, t', y', time) -> state`` inside a step.
        event_fn: A scalar or several values; the first to change its sign counts.
        t: Start.
        y: State there.
        tolerance: Accuracy of the event time.

    Returns:
        Time and state of the event.

    Raises:
        SolverError: When 20,000 steps bring no change of sign.
    """
    with torch.no_grad():
        signs = torch.sign(event_fn(t, y))

    def crossed(t: torch.Tensor, y: torch.Tensor) -> bool:
        with torch.no_grad():
            return bool((event_fn(t, y) * signs).min() <= 0)

    for _ in range(_MOST_STEPS):
        after_t, after = advance(t, y)
        if crossed(after_t, after):
            break
        t, y = after_t, after
    else:
        raise SolverError(f"the event function did not change its sign in {_MOST_STEPS} steps")
    low, high = t.detach(), after_t.detach()
    with torch.no_grad():
        smallest = max(tolerance, 2 * torch.finfo(low.dtype).eps * max(1.0, abs(float(high))))
        for _ in range(max(1, math.ceil(math.log2(max(2.0, abs(float(high - low)) / smallest))))):
            middle = (low + high) / 2
            if crossed(middle, between(t, y, after_t, after, middle)):
                high = middle
            else:
                low = middle
    event_t = (low + high) / 2
    return event_t, between(t, y, after_t, after, event_t)


class AdaptiveStep:
    """Accepted steps of an adaptive method, one at a time, for a state (1, D).

    Args:
        f: ``f(t, y)`` with t of shape (1,).
        tableau: One with an error estimate.
        sign: Direction of time.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        first_step: Length of the first attempt.
    """

    def __init__(
        self, f: Callable[[Any, torch.Tensor], torch.Tensor], tableau: Tableau, sign: float, rtol: float, atol: float,
        first_step: float,
    ) -> None:  # fmt: skip
        self.f, self.tableau, self.sign, self.rtol, self.atol = f, tableau, sign, rtol, atol
        self.length = first_step

    def advance(self, t: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next accepted step."""
        exponent = -1.0 / (8 if self.tableau.error3 else 5)
        while self.length > 1e-14 * max(1.0, abs(float(t))):
            h = torch.full_like(y[:, :1], self.sign * self.length).detach()
            slopes = stages(self.f, t.reshape(1), y, h, self.tableau)
            after = y + h * weighted(slopes, self.tableau.floats[1])
            scale = self.atol + self.rtol * torch.maximum(y.abs(), after.abs())
            error = float(error_norm(self.tableau, slopes, self.f, t.reshape(1), h, after, scale).detach())
            factor = min(GROW, max(SHRINK, SAFETY * max(error, 1e-30) ** exponent)) if math.isfinite(error) else SHRINK
            done, self.length = self.length, self.length * factor
            if error <= 1:
                return t + self.sign * done, after
        raise SolverError("the step became too small before the event")

    def between(
        self, t: torch.Tensor, y: torch.Tensor, after_t: torch.Tensor, after: torch.Tensor, at: torch.Tensor
    ) -> torch.Tensor:
        """A shorter step of the method, which is more accurate than an interpolation."""
        h = (at - t).detach().reshape(1, 1).to(y.dtype)
        return y + h * increment(self.f, t.reshape(1), y, h, self.tableau)
