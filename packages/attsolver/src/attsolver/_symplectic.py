"""Splitting methods for separable systems ``q' = v(p), p' = F(q)``: velocity Verlet and PEFRL."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ._eager import F
from ._rhs import ComponentwiseRHS

_XI, _LAMBDA, _CHI = 0.1786178958448091, -0.2123418310626054, -0.06626458266981849


@dataclass(frozen=True)
class Splitting:
    """Pairs (drift, kick) in the order they act: ``q += a h v(p)``, then ``p += b h F(q)``."""

    name: str
    order: int
    pairs: tuple[tuple[float, float], ...]

    @property
    def forces(self) -> int:
        """Evaluations of F in a step; a kick that begins a step reuses the F that ended the step before."""
        return sum(bool(drift) and any(b for _, b in self.pairs[i:]) for i, (drift, _) in enumerate(self.pairs))


SPLITTINGS = {
    "leapfrog": Splitting("leapfrog", 2, ((0.0, 0.5), (1.0, 0.5))),
    # Omelyan, Mryglod, Folk: Optimized Forest-Ruth- and Suzuki-like algorithms, 2002
    "pefrl": Splitting(
        "pefrl",
        4,
        (
            (_XI, (1 - 2 * _LAMBDA) / 2),
            (_CHI, _LAMBDA),
            (1 - 2 * (_CHI + _XI), _LAMBDA),
            (_CHI, (1 - 2 * _LAMBDA) / 2),
            (_XI, 0.0),
        ),
    ),
}


def check_separable(rhs: ComponentwiseRHS, dim: int) -> Sequence[int]:
    """The position components of a separable right-hand side.

    Raises:
        ValueError: When the positions are not named, or a derivative depends on what a splitting must not mix.
    """
    if rhs.positions is None:
        raise ValueError(
            f"{rhs.name} does not say which components are positions; leapfrog and pefrl need "
            "@attsolver.rhs(positions=...) on a separable system, otherwise take rk4 or dop853"
        )
    positions = set(rhs.positions)
    if not positions or not positions < set(range(dim)):
        raise ValueError(f"positions {sorted(positions)} of {rhs.name} must be some of the components 0..{dim - 1}")
    graph = rhs.graph(dim)
    for i, output in enumerate(graph.outputs):
        for leaf in graph.depends(output):
            if leaf[0] == "t" or (leaf[0] == "x" and (leaf[1] in positions) == (i in positions)):
                on = "the time" if leaf[0] == "t" else f"component {leaf[1]}"
                raise ValueError(
                    f"{rhs.name} is not separable: the derivative of component {i} depends on {on}; "
                    "leapfrog and pefrl need q' = v(p), p' = F(q). Take rk4 or dop853"
                )
    return sorted(positions)


class SplittingStep:
    """One step of a splitting method on states (..., d)."""

    def __init__(self, f: F, splitting: Splitting, positions: Sequence[int]) -> None:
        self.f, self.splitting, self.positions = f, splitting, list(positions)
        self._end: torch.Tensor | None = None
        self._slope: torch.Tensor | None = None

    def __call__(self, t: float, u: torch.Tensor, h: float) -> torch.Tensor:
        """The state after one step of length h."""
        moves = torch.zeros(u.shape[-1], dtype=u.dtype, device=u.device)
        moves[self.positions] = 1
        rests = 1 - moves
        slope = self._slope if u is self._end else None
        for drift, kick in self.splitting.pairs:
            if drift:
                u, slope = u + (drift * h) * moves * self.f(t, u), None
            if kick:
                force = self.f(t, u) if slope is None else slope
                u, slope = u + (kick * h) * rests * force, force
        self._end, self._slope = u, slope
        return u
