"""A particle in a quartic double well."""

from typing import Any

from attsolver._rhs import rhs

from ._system import System, uniform


@rhs(params={"a": 1.0, "b": 1.0}, positions=(0,))
def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    return x[1], p.a * x[0] - p.b * x[0] * x[0] * x[0]


def _energy(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    return 0.5 * x[1] * x[1] - 0.5 * p.a * x[0] ** 2 + 0.25 * p.b * x[0] ** 4


def double_well() -> System:
    """H = v^2 / 2 - a x^2 / 2 + b x^4 / 4, state (x, v)."""
    return System(
        name="double_well",
        rhs=_rhs,
        states=("x", "v"),
        units=("m", "m/s"),
        param_units={"a": "1/s^2", "b": "1/(m^2 s^2)"},
        dt=0.2,
        steps=200,
        base="rk4",
        law=lambda n, generator: uniform(n, (-1.8, -0.8), (1.8, 0.8), generator),
        invariants={"energy": _energy},
    )
