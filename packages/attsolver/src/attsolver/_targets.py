"""What a corrector learns from: states one step apart, the increment between them and the error of the base step."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import systems
from ._attsolver import AttSolver
from ._eager import increment
from ._generate import TrajectoryData
from ._rhs import ComponentwiseRHS, params_hash
from .systems import System

OwnFunction = System | ComponentwiseRHS | Any


@dataclass(frozen=True, eq=False)
class Problem:
    """The right-hand side that made the data, with the data's parameters.

    Args:
        f: ``f(t, u, flat)`` for states (..., d); flat may be None.
        flat: Parameters by trajectory, (n, n_params), or None when they are the right-hand side's own.
        params_hash: Hash of the parameters when all trajectories share them, else empty.
        defaults: Flat parameters of the right-hand side, empty for a plain function.
    """

    f: Any
    flat: Tensor | None
    params_hash: str
    defaults: tuple[float, ...]

    def params(self, n: int, count: int) -> Tensor | None:
        """Flat parameters (n, count) for a corrector that reads ``count`` of them; None for one that reads none.

        Raises:
            ValueError: When the right-hand side has another number of parameters.
        """
        if not count:
            return None
        if len(self.defaults) != count:
            raise ValueError(
                f"the solver reads conditioning={count} parameters, the right-hand side has {len(self.defaults)}"
            )
        if self.flat is not None:
            return self.flat
        return torch.tensor(self.defaults, dtype=torch.float64).expand(n, count)


def problem_of(data: TrajectoryData, system: OwnFunction | None, conditioning: int) -> Problem:
    """Find the right-hand side of the data and bind the data's parameters.

    Raises:
        ValueError: When the system is unknown, or parameters differ by trajectory and the solver does not read them.
    """
    if system is None:
        system = system_of(data)
    if not isinstance(system, System | ComponentwiseRHS):
        return Problem(lambda t, u, flat: system(t, u), None, "", ())
    rhs = system.rhs if isinstance(system, System) else system
    changed = {}
    for name, own in rhs.params.items():
        value = data.params.get(name, own)
        plain = tuple(value.tolist()) if isinstance(value, Tensor) and value.ndim == 1 else value
        if plain != own:
            changed[name] = value
    flat = rhs.flat_params(changed, data.y[:, 0])
    shared = flat is None or flat.ndim == 1
    if flat is not None and flat.ndim == 1:
        flat = flat.expand(len(data.y), -1)
    if not shared and not conditioning:
        raise ValueError(
            f"the parameters {sorted(changed)} differ from trajectory to trajectory; construct the solver with "
            f"conditioning={len(rhs.flat_defaults)} so that it reads them"
        )
    bound = {n: _plain(changed.get(n, own)) for n, own in rhs.params.items()} if shared else {}
    return Problem(rhs.flat, flat, params_hash(bound) if shared else "", tuple(rhs.flat_defaults))


def _plain(value: Any) -> float | tuple[float, ...]:
    if isinstance(value, Tensor):
        value = value.tolist()
    return tuple(float(one) for one in value) if isinstance(value, list | tuple) else float(value)


def system_of(data: TrajectoryData) -> System:
    """The system that the data name, at the size that fits them.

    Raises:
        ValueError: When there is none.
    """
    d = data.y.shape[-1]
    lengths = [len(v) for v in data.params.values() if isinstance(v, tuple | list)]
    lengths += [v.shape[-1] for v in data.params.values() if isinstance(v, Tensor) and v.ndim]
    for size in (None, d, d // 2, d // 4, *lengths):
        try:
            system = systems.get(data.system, size=size)
        except ValueError:
            continue
        if system.dim == d and all(_fits(data.params.get(n, v), v, len(data.y)) for n, v in system.params.items()):
            return system
    raise ValueError(
        f"there is no system {data.system!r} with {d} states and the data's parameters; pass system= to fit"
    )


def _fits(value: Any, own: float | tuple[float, ...], n: int) -> bool:
    shape = tuple(torch.as_tensor(value).shape)
    expected = () if isinstance(own, float) else (len(own),)
    return shape in (expected, (n, *expected))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Local errors of the base method, one row for each pair of states one step apart.

    Args:
        u: States, (m, d).
        s: Increments, (m, d).
        error: ``u_next - (u + dt s)``, (m, d).
        params: Flat parameters (m, n_params), or None.
        held: Which rows are held out, (m,) bool.
    """

    u: Tensor
    s: Tensor
    error: Tensor
    params: Tensor | None
    held: Tensor


def stride_of(solver: AttSolver, data: TrajectoryData) -> int:
    """How many times of the data one step of the solver spans.

    Raises:
        ValueError: When dt is no multiple of the data's, the data are too short, or hold values that are not finite.
    """
    ratio = solver.dt / data.dt
    stride = round(ratio)
    if stride < 1 or abs(ratio - stride) > 1e-6 * ratio:
        raise ValueError(f"the solver's dt={solver.dt:g} is no multiple of the data's {data.dt:g}")
    if data.y.shape[1] <= stride:
        raise ValueError(f"trajectories of {data.y.shape[1]} times are shorter than one step of {stride}")
    if not bool(torch.isfinite(data.y).all()):
        index = tuple(int(i) for i in (~torch.isfinite(data.y)).nonzero()[0])
        raise ValueError(f"the data hold a value that is not finite at {list(index)}")
    return stride


@torch.no_grad()
def make_pairs(solver: AttSolver, data: TrajectoryData, problem: Problem, held_out: float) -> Pairs:
    """All pairs of the data, with whole trajectories (or the last steps of the only one) held out."""
    stride = stride_of(solver, data)
    u, following = data.y[:, :-stride], data.y[:, stride:]
    n, m, d = u.shape
    flat = None if problem.flat is None else problem.flat[:, None]
    s = increment(lambda t, x: problem.f(t, x, flat), data.t[:m], u, solver.dt, solver.tableau)
    error = following - (u + solver.dt * s)
    params = problem.params(n, solver.conditioning)
    held = torch.zeros(n, m, dtype=torch.bool)
    if held_out:
        if n > 1:
            held[n - max(1, round(held_out * n)) :] = True
        else:
            held[:, m - max(1, round(held_out * m)) :] = True
    rows = None if params is None else params[:, None].expand(n, m, params.shape[-1]).reshape(n * m, -1)
    if not bool(torch.isfinite(error).all()):
        raise ValueError(
            f"one step of {solver.base} with dt={solver.dt:g} from the data is not finite; take a smaller dt"
        )
    return Pairs(u.reshape(-1, d), s.reshape(-1, d), error.reshape(-1, d), rows, held.reshape(-1))


def error_scale(pairs: Pairs) -> Tensor:
    """Standard deviation of the local error over the training pairs, (d,); 1 where it is 0."""
    scale = pairs.error[~pairs.held].std(0, unbiased=False)
    return torch.where(scale > 0, scale, 1.0)
