"""Predators and their prey (Lotka, 1925; Volterra, 1926)."""

from typing import Any

from attsolver._rhs import rhs

from ._system import System, uniform


@rhs(params={"alpha": 1.0, "beta": 1.0, "delta": 1.0, "gamma": 1.0})
def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    return x[0] * (p.alpha - p.beta * x[1]), x[1] * (p.delta * x[0] - p.gamma)


def _volterra(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    return p.delta * x[0] - p.gamma * m.log(x[0]) + p.beta * x[1] - p.alpha * m.log(x[1])


def lotka_volterra() -> System:
    """X' = x (alpha - beta y), y' = y (delta x - gamma); delta x - gamma log x + beta y - alpha log y is constant."""
    return System(
        name="lotka_volterra",
        rhs=_rhs,
        states=("prey", "predators"),
        units=("1", "1"),
        param_units={"alpha": "1/s", "beta": "1/s", "delta": "1/s", "gamma": "1/s"},
        dt=0.1,
        steps=200,
        base="rk4",
        law=lambda n, generator: uniform(n, (0.5, 0.5), (2.0, 2.0), generator),
        invariants={"volterra": _volterra},
    )
