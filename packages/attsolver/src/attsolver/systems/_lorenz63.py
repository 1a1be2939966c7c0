"""Convection rolls in three modes (Lorenz, 1963)."""

from typing import Any

from attsolver._rhs import rhs

from ._system import System, uniform


@rhs(params={"sigma": 10.0, "rho": 28.0, "beta": 8.0 / 3.0})
def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    return p.sigma * (x[1] - x[0]), x[0] * (p.rho - x[2]) - x[1], x[0] * x[1] - p.beta * x[2]


def lorenz63() -> System:
    """X' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z; largest Lyapunov exponent about 0.906."""
    return System(
        name="lorenz63",
        rhs=_rhs,
        states=("x", "y", "z"),
        units=("1", "1", "1"),
        param_units={"sigma": "1", "rho": "1", "beta": "1"},
        dt=0.05,
        steps=200,
        base="rk4",
        law=lambda n, generator: uniform(n, (-15.0, -20.0, 10.0), (15.0, 20.0, 40.0), generator),
    )
