"""A planet around a fixed sun."""

import math
from typing import Any

import torch

from attsolver._rhs import rhs

from ._system import System, uniform


@rhs(params={"mu": 1.0}, positions=(0, 1))
def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    square = x[0] * x[0] + x[1] * x[1]
    pull = -p.mu / (square * m.sqrt(square))
    return x[2], x[3], pull * x[0], pull * x[1]


def _energy(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    return 0.5 * (x[2] * x[2] + x[3] * x[3]) - p.mu / m.sqrt(x[0] * x[0] + x[1] * x[1])


def _angular_momentum(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    return x[0] * x[3] - x[1] * x[2]


def _law(n: int, generator: torch.Generator) -> torch.Tensor:
    """Perihelia of ellipses with semi-major axis 1 and eccentricity up to 0.5, turned at random."""
    e, turn = uniform(n, [0.0, 0.0], [0.5, 2 * math.pi], generator).unbind(-1)
    distance, speed = 1 - e, ((1 + e) / (1 - e)).sqrt()
    return torch.stack([distance * turn.cos(), distance * turn.sin(), -speed * turn.sin(), speed * turn.cos()], dim=-1)


def kepler() -> System:
    """Newton's q'' = -mu q / |q|^3, state (x, y, vx, vy); one turn takes 2 pi."""
    return System(
        name="kepler",
        rhs=_rhs,
        states=("x", "y", "vx", "vy"),
        units=("au", "au", "au/T", "au/T"),
        param_units={"mu": "au^3/T^2"},
        dt=0.05,
        steps=200,
        base="rk4",
        law=_law,
        invariants={"energy": _energy, "angular_momentum": _angular_momentum},
    )
