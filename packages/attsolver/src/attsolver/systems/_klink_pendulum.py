"""A chain of k pendulums of equal length and mass."""

import math
from typing import Any

import torch

from attsolver._rhs import rhs

from ._system import System, uniform


def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    n = len(x) // 2
    theta, omega = x[:n], x[n:]
    sin, cos = [m.sin(one) for one in theta], [m.cos(one) for one in theta]
    square = [one * one for one in omega]
    mass, force = [], []
    for i in range(n):
        c = [float(n - max(i, j)) for j in range(n)]
        mass.append([c[j] * (cos[i] * cos[j] + sin[i] * sin[j]) if j < i else c[j] for j in range(i + 1)])
        pull = -(p.g / p.l) * (n - i) * sin[i]
        for j in range(n):
            if j != i:
                pull = pull - c[j] * square[j] * (sin[i] * cos[j] - cos[i] * sin[j])
        force.append(pull)
    return (*omega, *_solve(mass, force))


def _solve(a: list[list[Any]], b: list[Any]) -> list[Any]:
    """The solution of a symmetric positive definite system by L D L^T; a holds the lower triangle."""
    n = len(b)
    lower: list[list[Any]] = [[] for _ in range(n)]
    scaled: list[list[Any]] = [[] for _ in range(n)]  # L D
    inverse: list[Any] = []
    y: list[Any] = []
    for i in range(n):
        for j in range(i):
            entry = a[i][j]
            for k in range(j):
                entry = entry - scaled[i][k] * lower[j][k]
            scaled[i].append(entry)
            lower[i].append(entry * inverse[j])
        pivot, right = a[i][i], b[i]
        for k in range(i):
            pivot = pivot - scaled[i][k] * lower[i][k]
            right = right - lower[i][k] * y[k]
        inverse.append(1.0 / pivot)
        y.append(right)
    z = [y[i] * inverse[i] for i in range(n)]
    for i in reversed(range(n)):
        for k in range(i + 1, n):
            z[i] = z[i] - lower[k][i] * z[k]
    return z


def _energy(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    n = len(x) // 2
    theta, omega = x[:n], x[n:]
    kinetic: Any = 0.0
    for i in range(n):
        for j in range(n):
            kinetic = kinetic + (n - max(i, j)) * omega[i] * omega[j] * m.cos(theta[i] - theta[j])
    potential = sum((n - i) * m.cos(theta[i]) for i in range(n))
    return 0.5 * p.l**2 * kinetic - p.g * p.l * potential


def klink_pendulum(size: int) -> System:
    """M(theta) theta'' = F(theta, omega), solved by L D L^T.

    sum_j c_ij cos(th_i - th_j) th_j'' = -(g / l) (k - i + 1) sin th_i - sum_j c_ij w_j^2 sin(th_i - th_j),
    c_ij = k + 1 - max(i, j).

    Unit masses; starts at rest with angles within pi/3.
    """
    if size < 1:
        raise ValueError(f"a pendulum has at least 1 link; got {size}")
    third = math.pi / 3

    def law(n: int, generator: torch.Generator) -> torch.Tensor:
        angles = uniform(n, [-third] * size, [third] * size, generator)
        return torch.cat([angles, torch.zeros_like(angles)], dim=-1)

    return System(
        name="klink_pendulum",
        rhs=rhs(params={"g": 9.8, "l": 1.0})(_rhs),
        states=(*(f"theta{i + 1}" for i in range(size)), *(f"omega{i + 1}" for i in range(size))),
        units=("rad",) * size + ("rad/s",) * size,
        param_units={"g": "m/s^2", "l": "m"},
        dt=0.05,
        steps=200,
        base="rk4",
        law=law,
        invariants={"energy": _energy},
    )
