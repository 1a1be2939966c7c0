"""Bodies of equal mass that attract each other in a plane, with softened gravity."""

import math
from typing import Any

import torch

from attsolver._rhs import rhs

from ._system import System, uniform


def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    n = len(x) // 4
    pull: list[Any] = [0.0] * (2 * n)
    for i in range(n):
        for j in range(i):
            dx, dy = x[2 * j] - x[2 * i], x[2 * j + 1] - x[2 * i + 1]
            square = dx * dx + dy * dy + p.softening * p.softening
            weight = (p.G * p.mass) / (square * m.sqrt(square))
            pull[2 * i], pull[2 * i + 1] = pull[2 * i] + weight * dx, pull[2 * i + 1] + weight * dy
            pull[2 * j], pull[2 * j + 1] = pull[2 * j] - weight * dx, pull[2 * j + 1] - weight * dy
    return (*x[2 * n :], *pull)


def _energy(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    n = len(x) // 4
    energy = 0.5 * p.mass * sum(v * v for v in x[2 * n :])
    for i in range(n):
        for j in range(i):
            square = (x[2 * j] - x[2 * i]) ** 2 + (x[2 * j + 1] - x[2 * i + 1]) ** 2 + p.softening * p.softening
            energy = energy - p.G * p.mass * p.mass / m.sqrt(square)
    return energy


def _angular_momentum(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    n = len(x) // 4
    q, v = x[: 2 * n], x[2 * n :]
    return p.mass * sum(q[2 * i] * v[2 * i + 1] - q[2 * i + 1] * v[2 * i] for i in range(n))


def n_body(size: int) -> System:
    """q_i'' = G m sum_j (q_j - q_i) / (|q_j - q_i|^2 + eps^2)^(3/2), state (x1, y1, ..., vx1, vy1, ...).

    Starts on a jittered ring of radius 1 that turns about its centre, with the total momentum removed.
    """
    if size < 2:
        raise ValueError(f"there are at least 2 bodies; got {size}")

    def law(n: int, generator: torch.Generator) -> torch.Tensor:
        angle = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size)
        angle = angle + uniform(n, [-0.2] * size, [0.2] * size, generator)
        radius = uniform(n, [0.8] * size, [1.2] * size, generator)
        speed = uniform(n, [0.5] * size, [0.9] * size, generator)
        q = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
        v = torch.stack([-speed * angle.sin(), speed * angle.cos()], dim=-1)
        v = v - v.mean(1, keepdim=True)
        return torch.cat([q.flatten(1), v.flatten(1)], dim=-1)

    positions = [f"{axis}{i + 1}" for i in range(size) for axis in "xy"]
    return System(
        name="n_body",
        rhs=rhs(params={"G": 1.0, "mass": 1.0 / size, "softening": 0.1}, positions=range(2 * size))(_rhs),
        states=(*positions, *(f"v{name}" for name in positions)),
        units=("1",) * (4 * size),
        param_units={"G": "1", "mass": "1", "softening": "1"},
        dt=0.02,
        steps=200,
        base="rk4",
        law=law,
        invariants={"energy": _energy, "angular_momentum": _angular_momentum},
    )
