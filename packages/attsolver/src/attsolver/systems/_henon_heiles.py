"""The motion of a star in the plane of a galaxy (Henon and Heiles, 1964)."""

from typing import Any

import torch

from attsolver._rhs import rhs

from ._system import System, uniform


@rhs(params={"lam": 1.0}, positions=(2, 3))
def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    px, py, q1, q2 = x
    return -q1 - 2.0 * p.lam * q1 * q2, -q2 - p.lam * (q1 * q1 - q2 * q2), px, py


def _energy(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    px, py, q1, q2 = x
    return 0.5 * (px * px + py * py + q1 * q1 + q2 * q2) + p.lam * (q1 * q1 * q2 - q2 * q2 * q2 / 3.0)


def _law(n: int, generator: torch.Generator) -> torch.Tensor:
    """States of energy in [1/12, 1/6), uniform in energy: a position, then the direction of the momentum."""
    states = torch.empty(n, 4, dtype=torch.float64)
    energy = uniform(n, [1 / 12], [1 / 6], generator)[:, 0]
    position = torch.zeros(n, 2, dtype=torch.float64)
    wanting = torch.ones(n, dtype=torch.bool)
    while bool(wanting.any()):
        trial = uniform(n, [-0.5, -0.5], [0.5, 0.5], generator)
        q1, q2 = trial.unbind(-1)
        potential = 0.5 * (q1**2 + q2**2) + q1**2 * q2 - q2**3 / 3
        good = wanting & (potential < energy)
        position[good] = trial[good]
        wanting &= ~good
    q1, q2 = position.unbind(-1)
    speed = (2 * (energy - (0.5 * (q1**2 + q2**2) + q1**2 * q2 - q2**3 / 3))).sqrt()
    angle = uniform(n, [0.0], [2 * torch.pi], generator)[:, 0]
    states[:, 0], states[:, 1] = speed * angle.cos(), speed * angle.sin()
    states[:, 2:] = position
    return states


def henon_heiles() -> System:
    """H = (px^2 + py^2 + x^2 + y^2) / 2 + lam (x^2 y - y^3 / 3), bounded below the energy 1/6."""
    return System(
        name="henon_heiles",
        rhs=_rhs,
        states=("px", "py", "x", "y"),
        units=("1", "1", "1", "1"),
        param_units={"lam": "1"},
        dt=0.5,
        steps=200,
        base="rk4",
        law=_law,
        invariants={"energy": _energy},
    )
