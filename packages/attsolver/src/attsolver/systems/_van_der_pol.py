"""A self-excited oscillator (van der Pol, 1926)."""

from typing import Any

from attsolver._rhs import rhs

from ._system import System, uniform


@rhs(params={"mu": 1.0})
def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    return x[1], p.mu * (1.0 - x[0] * x[0]) * x[1] - x[0]


def van_der_pol() -> System:
    """X'' = mu (1 - x^2) x' - x; stiff for large mu."""
    return System(
        name="van_der_pol",
        rhs=_rhs,
        states=("x", "v"),
        units=("1", "1"),
        param_units={"mu": "1"},
        dt=0.05,
        steps=200,
        base="rk4",
        law=lambda n, generator: uniform(n, (-2.5, -3.0), (2.5, 3.0), generator),
    )
