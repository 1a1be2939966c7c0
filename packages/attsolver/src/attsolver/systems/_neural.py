"""A neural right-hand side with fixed weights: the costly f of the comparisons."""

import math
from typing import Any

import torch

from attsolver._rhs import rhs

from ._system import System, uniform

_DIM = 4


def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    hidden = len(p.b1)
    active = []
    for j in range(hidden):
        total = p.b1[j]
        for i in range(_DIM):
            total = total + p.w1[j * _DIM + i] * x[i]
        active.append(m.tanh(total))
    out = []
    for i in range(_DIM):
        total = -p.decay * x[i]
        for j in range(hidden):
            total = total + p.w2[i * hidden + j] * active[j]
        out.append(total)
    return tuple(out)


def neural(size: int) -> System:
    """U' = -decay u + W2 tanh(W1 u + b1) in four dimensions, weights drawn once with seed 0."""
    if size < 1:
        raise ValueError(f"there is at least 1 hidden unit; got {size}")
    generator = torch.Generator().manual_seed(0)

    def draw(n: int, scale: float) -> list[float]:
        return [float(x) for x in scale * torch.randn(n, generator=generator, dtype=torch.float64)]

    params: dict[str, float | list[float]] = {
        "w1": draw(size * _DIM, 1.0),
        "b1": draw(size, 0.5),
        "w2": draw(_DIM * size, 3.0 / math.sqrt(size)),
        "decay": 0.5,
    }
    return System(
        name="neural",
        rhs=rhs(params=params)(_rhs),
        states=("u1", "u2", "u3", "u4"),
        units=("1",) * _DIM,
        param_units={"w1": "1", "b1": "1", "w2": "1/s", "decay": "1/s"},
        dt=0.1,
        steps=200,
        base="rk4",
        law=lambda n, generator: uniform(n, [-2.0] * _DIM, [2.0] * _DIM, generator),
    )
