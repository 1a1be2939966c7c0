"""The reference engine: plain torch operations, one step after another, differentiable."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from ._corrector import Corrected, Corrector
from ._grid import Grid
from ._solution import BOUND_EXCEEDED, NON_FINITE, OK
from ._tableaus import Tableau

F = Callable[[Any, torch.Tensor], torch.Tensor]
FALLBACK_SUBSTEPS = 4
CHECK_EVERY = 16


def increment(f: F, t: Any, u: torch.Tensor, h: Any, tableau: Tableau) -> torch.Tensor:
    """S of one step ``u + h S`` of the tableau.

    Args:
        f: ``f(t, u)``.
        t: Time at the start.
        u: States (..., d).
        h: Step, a number or a tensor that broadcasts with u.
        tableau: The method.

    Returns:
        S, shape (..., d).
    """
    return weighted(stages(f, t, u, h, tableau), tableau.floats[1])


def stages(f: F, t: Any, u: torch.Tensor, h: Any, tableau: Tableau) -> list[torch.Tensor]:
    """The slopes k_1 ... k_s of one step; arguments as in ``increment``."""
    a, _, c = tableau.floats
    time_step = h[..., 0] if isinstance(h, torch.Tensor) and h.ndim else h
    slopes: list[torch.Tensor] = []
    for row, node in zip(a, c, strict=True):
        at = u if not row else u + h * weighted(slopes, row)
        slopes.append(f(t + node * time_step if node else t, at))
    return slopes


def weighted(slopes: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Sum of the slopes with non-zero weights, in order."""
    total: torch.Tensor | None = None
    for slope, weight in zip(slopes, weights, strict=True):
        if weight:
            total = weight * slope if total is None else total + weight * slope
    assert total is not None
    return total


class FixedStep:
    """One step of a Runge-Kutta method, with or without its correction.

    Args:
        f: ``f(t, u)``.
        tableau: The base method.
        corrected: Adds its correction; None for the base alone.
        params: Flat parameters, for a conditioned corrector.
        fallback: Take four base steps of h / 4 instead where a state is outside the training box.
    """

    def __init__(
        self,
        f: F,
        tableau: Tableau,
        corrected: Corrected | None = None,
        *,
        params: torch.Tensor | None = None,
        fallback: bool = False,
    ) -> None:
        self.f, self.tableau, self.corrected, self.params, self.fallback = f, tableau, corrected, params, fallback
        self.arrays: Corrector | None = corrected.corrector() if corrected is not None else None
        self.out_of_domain: torch.Tensor | None = None

    def __call__(self, t: float, u: torch.Tensor, h: float) -> torch.Tensor:
        """The state after one step of length h."""
        after = self.plain(t, u, h)
        if self.arrays is None:
            return after
        outside = self._outside(u.detach())
        self.out_of_domain = outside.long() if self.out_of_domain is None else self.out_of_domain + outside
        if self.fallback and bool(outside.any()):
            fine, part = u, h / FALLBACK_SUBSTEPS
            for i in range(FALLBACK_SUBSTEPS):
                fine = fine + part * increment(self.f, t + i * part, fine, part, self.tableau)
            after = torch.where(outside[..., None], fine, after)
        return after

    def plain(self, t: Any, u: torch.Tensor, h: Any) -> torch.Tensor:
        """The step alone, without a look at the training box."""
        s = increment(self.f, t, u, h, self.tableau)
        base: torch.Tensor = u + h * s
        if self.corrected is None or self.arrays is None:
            return base
        ratio = (h / self.arrays.dt) ** (self.arrays.order + 1) if self.arrays.scaling == "power" else 1.0
        after: torch.Tensor = base + ratio * self.corrected.correction(t, u, s, self.params)
        return after

    def _outside(self, u: torch.Tensor) -> torch.Tensor:
        assert self.arrays is not None
        low, high = torch.as_tensor(self.arrays.low).to(u), torch.as_tensor(self.arrays.high).to(u)
        return ((u < low) | (u > high)).any(-1)


Stepper = Callable[[float, torch.Tensor, float], torch.Tensor]
Block = Callable[[torch.Tensor, float, float, int, int], torch.Tensor]


def integrate(
    stepper: Stepper,
    u: torch.Tensor,
    grid: Grid,
    *,
    max_norm: float | None,
    segment: int = 0,
    compiled: Block | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """All steps of a grid.

    Args:
        stepper: ``(t, u, h) -> u'``.
        u: Initial states (..., d).
        grid: The steps.
        max_norm: Bound on every |u_i|, looked at every 16 steps of a run and at its end.
        segment: Steps between checkpoints of the backward pass; 0 keeps every intermediate result instead.
        compiled: Runs several steps in the stepper's place.

    Returns:
        Kept states (T, ..., d) and the status (...).
    """
    kept = [u] if grid.initial else []
    status = torch.zeros(u.shape[:-1], dtype=torch.int64, device=u.device)

    def block(u: torch.Tensor, start: float, h: float, first: int, count: int) -> torch.Tensor:
        for c in range(first, first + count):
            u = stepper(start + c * h, u, h)
        return u

    for run in grid.runs:
        done = 0
        while done < run.count:
            count = min(CHECK_EVERY - done % CHECK_EVERY, run.count - done)
            if run.every:
                count = min(count, run.every - done % run.every)
            if segment and torch.is_grad_enabled():
                count = min(segment, run.count - done, run.every - done % run.every if run.every else segment)
                u = checkpoint(block, u, run.start, run.h, done, count, use_reentrant=False)
            else:
                u = (compiled or block)(u, run.start, run.h, done, count)
            done += count
            if max_norm is not None and (done % CHECK_EVERY == 0 or done == run.count):
                beyond = (u.detach().abs() > max_norm).any(-1)
                status = torch.where(beyond & (status == OK), BOUND_EXCEEDED, status)
                u = torch.where(beyond[..., None], torch.nan, u)
            if run.every and done % run.every == 0:
                kept.append(u)
    y = torch.stack(kept)
    good = torch.isfinite(y.detach()).all(-1, keepdim=True)
    if not bool(good.all()):
        y = torch.where(good, y, torch.nan)
    status = torch.where(~torch.isfinite(u.detach()).all(-1) & (status == OK), NON_FINITE, status)
    return y, status
