"""Adaptive steps, chosen for every trajectory on its own: DP5 and DOP853 in plain torch operations."""

from collections.abc import Callable
from typing import Any

import torch

from ._eager import stages, weighted
from ._solution import OK, STEP_TOO_SMALL
from ._tableaus import Tableau

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0
F = Callable[[Any, torch.Tensor], torch.Tensor]


def error_norm(
    tableau: Tableau,
    slopes: list[torch.Tensor],
    f: F,
    t: Any,
    h: torch.Tensor,
    after: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Error of a step in units of the tolerance, root mean square over components, shape (n,)."""
    e5 = [float(x) for x in tableau.error]
    if len(e5) > len(slopes):
        slopes = [*slopes, f(t + h[..., 0], after)]
    first = (weighted(slopes, e5) / scale).square().mean(-1)
    if not tableau.error3:
        return h[..., 0].abs() * first.sqrt()
    second = (weighted(slopes, [float(x) for x in tableau.error3]) / scale).square().mean(-1)
    return h[..., 0].abs() * first / (first + 0.01 * second).clamp_min(torch.finfo(first.dtype).tiny).sqrt()


def integrate_adaptive(
    f: F,
    tableau: Tableau,
    u: torch.Tensor,
    times: torch.Tensor,
    *,
    rtol: float,
    atol: float,
    max_steps: int,
    first_step: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States at the times after the first; steps end on every output time.

    Args:
        f: ``f(t, u)`` with t of shape (n,) and u (n, d).
        tableau: One with an error estimate.
        u: Initial states (n, d).
        times: float64, strictly monotonic.
        rtol: Relative tolerance per component.
        atol: Absolute tolerance.
        max_steps: Attempted steps between two output times.
        first_step: Length of the first step; chosen from the slopes when None.

    Returns:
        States (T - 1, n, d), status (n,) and attempted steps (n,).
    """
    sign = 1.0 if float(times[-1]) > float(times[0]) else -1.0
    n = u.shape[0]
    status = torch.zeros(n, dtype=torch.int64, device=u.device)
    attempts = torch.zeros_like(status)
    t = torch.full((n,), float(times[0]), dtype=torch.float64, device=u.device)
    if first_step is None:
        slope = f(t.to(u.dtype), u)
        scale = atol + rtol * u.abs()
        size, speed = ((x / scale).square().mean(-1).sqrt() for x in (u, slope))
        step = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed).double().detach()
    else:
        step = torch.full_like(t, first_step)
    exponent = -1.0 / (8 if tableau.error3 else 5)
    kept, before = [], float(times[0])
    for target in times[1:].tolist():
        smallest, before = abs(target - before) * torch.finfo(u.dtype).eps, target
        tries = 0
        while True:
            left = sign * (target - t)
            active = (left > 0) & (status == OK)
            if not bool(active.any()):
                break
            tries += 1
            ends = step >= left
            length = torch.where(ends, left, step)
            h = (sign * torch.where(active, length, 0.0)).to(u.dtype)[:, None]
            at = t.to(u.dtype)
            slopes = stages(f, at, u, h, tableau)
            after = u + h * weighted(slopes, tableau.floats[1])
            scale = atol + rtol * torch.maximum(u.abs(), after.abs())
            error = error_norm(tableau, slopes, f, at, h, after, scale).detach().double()
            accepted = active & (error <= 1)
            factor = (SAFETY * error.clamp_min(1e-30) ** exponent).clamp(SHRINK, GROW)
            factor = torch.where(torch.isfinite(error), factor, SHRINK)
            factor = torch.where(accepted, factor, factor.clamp(max=1.0))
            grown = length * factor
            # A step cut short by an output time says nothing against the longer one that was planned.
            grown = torch.where(accepted & ends, torch.maximum(grown, step), grown)
            u = torch.where(accepted[:, None], after, u)
            t = torch.where(accepted, torch.where(ends, target, t + sign * length), t)
            attempts = attempts + active
            stuck = active & ~accepted & (grown < smallest)
            status = torch.where(stuck | (active & ~accepted & (tries >= max_steps)), STEP_TOO_SMALL, status)
            if tries >= max_steps:
                status = torch.where(active & (sign * (target - t) > 0), STEP_TOO_SMALL, status)
            step = torch.where(active, grown, step)
        broken = status != OK
        kept.append(torch.where(broken[:, None], torch.nan, u))
    return torch.stack(kept), status, attempts
