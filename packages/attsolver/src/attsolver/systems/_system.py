"""What a benchmark system carries: right-hand side, units, invariants and initial law."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from attsolver._rhs import ComponentwiseRHS, Value, rhs

Invariant = Callable[[tuple[Any, ...], Any, Any], Any]
Law = Callable[[int, torch.Generator], torch.Tensor]


def uniform(n: int, low: Sequence[float], high: Sequence[float], generator: torch.Generator) -> torch.Tensor:
    """States drawn uniformly from a box, float64 of shape (n, d)."""
    lower, upper = torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)
    return lower + (upper - lower) * torch.rand(n, len(low), generator=generator, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class System:
    """An ordinary differential equation with everything an experiment needs.

    Args:
        name: What ``get`` calls it.
        rhs: Component-wise right-hand side with the default parameters.
        states: Name of each component, in the order of the state.
        units: Unit of each component.
        param_units: Unit of each parameter.
        dt: Coarse step of the experiments, s.
        steps: How many of them.
        base: Base method of the experiments.
        law: Draws initial states.
        invariants: Functions ``(x, p, m)`` that are constant along a solution; ``energy`` is one where there is one.
    """

    name: str
    rhs: ComponentwiseRHS
    states: tuple[str, ...]
    units: tuple[str, ...]
    param_units: Mapping[str, str]
    dt: float
    steps: int
    base: str
    law: Law
    invariants: Mapping[str, Invariant] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Number of states d."""
        return len(self.states)

    @property
    def params(self) -> dict[str, float | tuple[float, ...]]:
        """Parameters by name; ``param_units`` has their units."""
        return dict(self.rhs.params)

    def invariant(self, name: str, y: torch.Tensor, params: Mapping[str, Value] | None = None) -> torch.Tensor:
        """An invariant of the states y (..., d), shape (...).

        Raises:
            ValueError: When the system has no such invariant.
        """
        if name not in self.invariants:
            raise ValueError(f"{self.name} has no invariant {name!r}; it has {sorted(self.invariants) or 'none'}")
        as_rhs = rhs(params=self.rhs.params)(lambda t, x, p, m: (self.invariants[name](x, p, m),))
        return as_rhs(0.0, y, params)[..., 0]

    def energy(self, y: torch.Tensor, params: Mapping[str, Value] | None = None) -> torch.Tensor:
        """The energy of the states y (..., d), shape (...).

        Raises:
            ValueError: When the system has none.
        """
        return self.invariant("energy", y, params)

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64
    ) -> torch.Tensor:
        """Initial states of the system's law, shape (n, d).

        Args:
            n: How many, at least 1.
            generator: Source of the randomness on the CPU; seed 0 when None.
            dtype: float32 or float64.

        Raises:
            ValueError: When n is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        return self.law(n, generator or torch.Generator().manual_seed(0)).to(dtype)

    def __repr__(self) -> str:
        return f"<system {self.name}, d={self.dim}, parameters {sorted(self.params)}>"
