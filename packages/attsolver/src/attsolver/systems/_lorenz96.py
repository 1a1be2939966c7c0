"""A ring of weather sites (Lorenz, 1996)."""

from typing import Any

from attsolver._rhs import rhs

from ._system import System, uniform


def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    n = len(x)
    return tuple((x[(i + 1) % n] - x[i - 2]) * x[i - 1] - x[i] + p.forcing for i in range(n))


def lorenz96(size: int) -> System:
    """x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F on a ring; at F = 8 the largest Lyapunov exponent is about 1.67."""
    if size < 4:
        raise ValueError(f"a ring has at least 4 sites; got {size}")
    return System(
        name="lorenz96",
        rhs=rhs(params={"forcing": 8.0})(_rhs),
        states=tuple(f"x{i + 1}" for i in range(size)),
        units=("1",) * size,
        param_units={"forcing": "1"},
        dt=0.05,
        steps=200,
        base="rk4",
        law=lambda n, generator: uniform(n, [-5.0] * size, [10.0] * size, generator),
    )
