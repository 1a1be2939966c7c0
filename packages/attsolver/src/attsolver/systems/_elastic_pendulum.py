"""A mass on a spring that swings in a plane."""

import math
from typing import Any

from attsolver._rhs import rhs

from ._system import System, uniform


@rhs(params={"g": 9.81, "k": 40.0, "m": 1.0, "l0": 10.0})
def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    theta, r, theta_dot, r_dot = x
    return (
        theta_dot,
        r_dot,
        (-p.g * m.sin(theta) - 2.0 * r_dot * theta_dot) / r,
        r * theta_dot * theta_dot + p.g * m.cos(theta) - (p.k / p.m) * (r - p.l0),
    )


def _energy(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    theta, r, theta_dot, r_dot = x
    kinetic = 0.5 * p.m * (r_dot * r_dot + r * r * theta_dot * theta_dot)
    return kinetic + 0.5 * p.k * (r - p.l0) ** 2 - p.m * p.g * r * m.cos(theta)


def elastic_pendulum() -> System:
    """Newton's equations in polar coordinates.

    theta'' = (-g sin theta - 2 r' theta') / r, r'' = r theta'^2 + g cos theta - (k / m) (r - l0).
    """
    quarter = math.pi / 4
    return System(
        name="elastic_pendulum",
        rhs=_rhs,
        states=("theta", "r", "theta_dot", "r_dot"),
        units=("rad", "m", "rad/s", "m/s"),
        param_units={"g": "m/s^2", "k": "N/m", "m": "kg", "l0": "m"},
        dt=0.1,
        steps=500,
        base="rk4",
        law=lambda n, generator: uniform(n, (-quarter, 9.5, -0.3, -1.0), (quarter, 11.5, 0.3, 1.0), generator),
        invariants={"energy": _energy},
    )
