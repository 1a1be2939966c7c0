"""Masses in a line, joined to their neighbours and to two walls by springs (the chain of SRNN and NeurVec)."""

from typing import Any

import torch

from attsolver._rhs import rhs

from ._system import System, uniform


def _rhs(t: Any, x: tuple[Any, ...], p: Any, m: Any) -> tuple[Any, ...]:
    n = len(x) // 2
    momentum, q = x[:n], x[n:]
    tension = [p.k[0] * q[0], *(p.k[i] * (q[i] - q[i - 1]) for i in range(1, n)), -p.k[n] * q[n - 1]]
    return (*(tension[i + 1] - tension[i] for i in range(n)), *(momentum[i] / p.m[i] for i in range(n)))


def _energy(x: tuple[Any, ...], p: Any, m: Any) -> Any:
    n = len(x) // 2
    momentum, q = x[:n], x[n:]
    walls = p.k[0] * q[0] ** 2 + p.k[n] * q[n - 1] ** 2
    inner = sum(p.k[i] * (q[i] - q[i - 1]) ** 2 for i in range(1, n))
    return 0.5 * (sum(momentum[i] ** 2 / p.m[i] for i in range(n)) + walls + inner)


def spring_chain(size: int) -> System:
    """p_i' = k_{i+1} (q_{i+1} - q_i) - k_i (q_i - q_{i-1}), q_i' = p_i / m_i, with q_0 = q_{n+1} = 0.

    Stiffness 5 clamp(N(0, 1) / 4 + 1, 0.2) N/m and mass clamp(N(0, 1) / 4 + 1, 0.2) kg, drawn once with seed 0. Initial
    momenta and positions are uniform in [-2.5, 2.5], zero at both end masses.
    """
    if size < 3:
        raise ValueError(f"a chain has at least 3 masses; got {size}")
    generator = torch.Generator().manual_seed(0)
    k = 5 * (torch.randn(size + 1, generator=generator, dtype=torch.float64) / 4 + 1).clamp(min=0.2)
    mass = (torch.randn(size, generator=generator, dtype=torch.float64) / 4 + 1).clamp(min=0.2)

    def law(n: int, generator: torch.Generator) -> torch.Tensor:
        states = uniform(n, [-2.5] * (2 * size), [2.5] * (2 * size), generator)
        states[:, [0, size - 1, size, 2 * size - 1]] = 0
        return states

    return System(
        name="spring_chain",
        rhs=rhs(params={"k": k.tolist(), "m": mass.tolist()}, positions=range(size, 2 * size))(_rhs),
        states=(*(f"p{i + 1}" for i in range(size)), *(f"q{i + 1}" for i in range(size))),
        units=("kg m/s",) * size + ("m",) * size,
        param_units={"k": "N/m", "m": "kg"},
        dt=0.2,
        steps=100,
        base="rk4",
        law=law,
        invariants={"energy": _energy},
    )
