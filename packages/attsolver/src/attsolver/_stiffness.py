"""Whether a step is too long for an explicit method, from the Jacobian at the data."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._tableaus import Tableau

LIMIT = 50.0


class StiffProblemError(ValueError):
    """The problem needs an implicit method."""


class StiffnessWarning(UserWarning):
    """The base method is unstable at this step; the correction has to carry the stability."""


def spectral_radius(f: Callable[[Tensor], Tensor], u: Tensor, *, iterations: int = 30) -> float:
    """The largest |lambda| of the Jacobian of f over states, by power iteration with central differences.

    The growth is averaged geometrically over the second half of the iterations, since a complex pair makes it swing.

    Args:
        f: ``f(u)`` for states (n, d).
        u: States (n, d), float64.
        iterations: Products with the Jacobian.

    Returns:
        The largest estimate over the n states; 0 where the Jacobian is 0.

    Example:
        >>> a = torch.tensor([[0.0, 3.0], [-3.0, 0.0]], dtype=torch.float64)
        >>> round(spectral_radius(lambda u: u @ a.T, torch.ones(1, 2, dtype=torch.float64)), 6)
        3.0
    """
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(u.shape, generator=generator, dtype=torch.float64).to(u)
    v = v / v.norm(dim=-1, keepdim=True)
    growth = torch.zeros(u.shape[0], dtype=u.dtype, device=u.device)
    half = iterations // 2
    step = 1e-6 * (1 + u.norm(dim=-1, keepdim=True))
    for i in range(iterations):
        product = (f(u + step * v) - f(u - step * v)) / (2 * step)
        length = product.norm(dim=-1, keepdim=True)
        v = product / length.clamp(min=1e-300)
        if i >= half:
            growth += length[:, 0].clamp(min=1e-300).log()
    return float((growth / (iterations - half)).exp().max())


def stability_interval(tableau: Tableau) -> float:
    """The largest x for which the method does not amplify ``y' = -y`` with any step up to x.

    Example:
        >>> from attsolver._tableaus import TABLEAUS
        >>> round(stability_interval(TABLEAUS["euler"]), 2), round(stability_interval(TABLEAUS["rk4"]), 2)
        (2.0, 2.78)
    """
    a, b, _ = tableau.floats
    z = -torch.arange(1, 2001, dtype=torch.float64) / 100
    slopes: list[Tensor] = []
    for row in a:
        at = torch.ones_like(z)
        for weight, slope in zip(row, slopes, strict=True):
            at = at + z * weight * slope
        slopes.append(at)
    total = torch.ones_like(z)
    for weight, slope in zip(b, slopes, strict=True):
        total = total + z * weight * slope
    unstable = (total.abs() > 1 + 1e-9).nonzero()
    return float(-z[int(unstable[0]) - 1]) if len(unstable) and int(unstable[0]) else float(-z[-1])


def check_stiffness(f: Callable[[Any, Tensor], Tensor], u: Tensor, dt: float, tableau: Tableau) -> float:
    """Estimate dt |lambda| at states u (n, d) and judge it.

    Returns:
        dt times the spectral radius.

    Raises:
        StiffProblemError: When it is over 50.

    Warns:
        StiffnessWarning: When it is outside the base method's interval of stability on the real axis.
    """
    radius = dt * spectral_radius(lambda x: f(0.0, x), u)
    limit = stability_interval(tableau)
    if radius > LIMIT:
        raise StiffProblemError(
            f"dt |lambda| is about {radius:.0f}: the problem is stiff, and no correction of {tableau.name} will "
            f"carry a step of {dt:g}. Take an implicit method, such as scipy's solve_ivp(method='Radau') "
            "or 'BDF', or a much smaller dt"
        )
    if radius > limit:
        warnings.warn(
            f"dt |lambda| is about {radius:.1f}, outside the {limit:.1f} within which {tableau.name} is stable: the "
            "correction has to carry the stability; a smaller dt is safer",
            StiffnessWarning,
            stacklevel=3,
        )
    return radius
