"""A driven, damped oscillator in a double well (Duffing)."""

from typing import Any

from attsolver._rhs import rhs

from ._system import System, uniform


@rhs(params={"alpha": -1.0, "beta": 1.0, "delta": 0.3, "gamma": 0.37, "omega": 1.2})
def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    force = p.gamma * m.cos(p.omega * t)
    return x[1], force - p.delta * x[1] - p.alpha * x[0] - p.beta * x[0] * x[0] * x[0]


def duffing() -> System:
    """The forced equation x'' + delta x' + alpha x + beta x^3 = gamma cos(omega t); depends on the time."""
    return System(
        name="duffing",
        rhs=_rhs,
        states=("x", "v"),
        units=("m", "m/s"),
        param_units={"alpha": "1/s^2", "beta": "1/(m^2 s^2)", "delta": "1/s", "gamma": "m/s^2", "omega": "rad/s"},
        dt=0.1,
        steps=200,
        base="rk4",
        law=lambda n, generator: uniform(n, (-1.5, -1.0), (1.5, 1.0), generator),
    )
