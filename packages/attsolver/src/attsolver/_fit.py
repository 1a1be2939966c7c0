"""Training: the linear part in closed form, then the network on the local errors of the base method."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ._attsolver import AttSolver
from ._generate import TrajectoryData
from ._stiffness import check_stiffness
from ._targets import OwnFunction, Pairs, Problem, error_scale, make_pairs, problem_of, stride_of
from ._training import Plan, Training

_DEVIATIONS, _WIDER = 3.0, 0.1  # what counts as known: 3 standard deviations, and the box of the data, 10 % wider


@dataclass(frozen=True)
class FitReport:
    """What a fit found.

    Attributes:
        pairs: Pairs of states that were trained on.
        iterations: Iterations of Adam; 0 where the linear part left nothing.
        rel_linear: RMS of what the linear part leaves of the local error, over the RMS of the local error, on the held
            out pairs (on the training pairs when none are held out).
        rel_local: The same for the fitted solver.
        best_iteration: The iteration whose weights were kept.
        curve: (iteration, training loss, held-out relative error) along the training.
        stiffness: ``dt |lambda|`` of the problem.
        seconds: Process time it took.
        seed: The seed.
    """

    pairs: int
    iterations: int
    rel_linear: float
    rel_local: float
    best_iteration: int
    curve: list[tuple[int, float, float]]
    stiffness: float
    seconds: float
    seed: int


def fit(
    solver: AttSolver,
    data: TrajectoryData,
    *,
    seed: int = 0,
    iterations: int = 1200,
    batch: int = 512,
    lr: float = 3e-3,
    ridge: float = 1e-9,
    rollout: int = 1,
    held_out: float = 0.1,
    noise: float = 0.0,
    warm_start: bool = False,
    system: OwnFunction | None = None,
    out: str | Path | None = None,
    save_every: int = 500,
) -> FitReport:
    """Train a solver on reference trajectories.

    The targets are the local errors ``e = u_next - (u + dt S(u))``, in units of their standard deviation. W_lin is the
    ridge solution of ``e ~ W z~``; the network starts at 0 beside it, and Adam with a cosine schedule trains all of it
    on ``mean((e - Q)^2)``. The weights of the lowest held-out error are kept, the linear ones included.

    Args:
        solver: Is trained in place.
        data: Reference trajectories; the solver's dt must be a multiple of theirs.
        seed: Of the weights and batches; the same seed gives the same bits on one CPU thread.
        iterations: Of Adam. They are left out where the linear part already leaves less than 1e-6 of the local error.
        batch: Pairs (or windows) an iteration.
        lr: Learning rate at the start.
        ridge: Penalty of the linear part, in units of the mean square of the features.
        rollout: Steps through which an iteration runs; over 1 the loss is that of all states on the way.
        held_out: Share of the trajectories that chooses the weights and measures ``rel_local``; 0 for none.
        noise: Standard deviation of Gaussian noise on the targets of each iteration, in units of the local error's.
        warm_start: Go on from the solver's weights and scales instead of new ones.
        system: The right-hand side, where the data's name is not that of a shipped system.
        out: Directory for checkpoints; the same call goes on where a killed one stopped, with the same bits on a CPU.
        save_every: Iterations between checkpoints.

    Returns:
        FitReport.

    Raises:
        StiffProblemError: When ``dt |lambda|`` is over 50 (a ValueError).
        ValueError: For arguments out of range, or data that do not fit the solver.

    Example:
        >>> from attsolver import generate, systems
        >>> data = generate(systems.get("lotka_volterra"), 8, 40, 0.1)
        >>> solver = AttSolver("heun", 0.1, hidden=8)
        >>> fit(solver, data, iterations=200).rel_local < 0.2
        True
    """
    plan = Plan(
        seed=seed,
        iterations=iterations,
        batch=batch,
        lr=lr,
        ridge=ridge,
        rollout=rollout,
        held_out=held_out,
        noise=noise,
        warm_start=warm_start,
    )
    _check(plan, data)
    begin = time.process_time()
    problem = problem_of(data, system, solver.conditioning)
    stiffness = _stiffness(solver, data, problem)
    pairs = make_pairs(solver, data, problem, held_out)
    generator = torch.Generator().manual_seed(seed)
    solver.materialize(pairs.u.shape[-1])
    if not warm_start:
        _set_scales(solver, pairs)
        solver.reset_parameters(generator)
        if solver.linear:
            _fit_linear(solver, pairs, ridge)
    solver.low.copy_(_bound(pairs.u, -1))
    solver.high.copy_(_bound(pairs.u, 1))
    solver.system, solver.params_hash = data.system, problem.params_hash if not solver.conditioning else ""
    training = Training(solver, pairs, data, problem, plan, generator)
    rel_linear = training.relative_error()
    if rel_linear > 1e-6 and any(p.requires_grad for p in solver.parameters()) and solver.hidden:
        training.run(out, save_every)
    return FitReport(
        pairs=int((~pairs.held).sum()),
        iterations=training.done,
        rel_linear=rel_linear,
        rel_local=training.relative_error(),
        best_iteration=training.best_iteration,
        curve=training.curve,
        stiffness=stiffness,
        seconds=time.process_time() - begin,
        seed=seed,
    )


def _check(plan: Plan, data: TrajectoryData) -> None:
    for name, least in (("iterations", 0), ("batch", 1), ("rollout", 1)):
        value = getattr(plan, name)
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is an int of at least {least}; got {value!r}")
    if not (plan.lr > 0 and plan.ridge >= 0 and plan.noise >= 0 and 0 <= plan.held_out < 1):
        raise ValueError(f"lr is positive, ridge and noise at least 0, held_out in [0, 1); got {plan}")
    if plan.rollout >= data.y.shape[1]:
        raise ValueError(f"a rollout of {plan.rollout} steps does not fit in {data.y.shape[1]} times")


def _stiffness(solver: AttSolver, data: TrajectoryData, problem: Problem) -> float:
    _, m, d = data.y.shape
    stride_of(solver, data)  # first, since it refuses what is not finite
    some = torch.linspace(0, m - 1, min(m, 4)).long()
    flat = None if problem.flat is None else problem.flat[:64].repeat_interleave(len(some), 0)
    u = data.y[:64, some].reshape(-1, d)
    return check_stiffness(lambda t, x: problem.f(t, x, flat), u, solver.dt, solver.tableau)


def _set_scales(solver: AttSolver, pairs: Pairs) -> None:
    solver.mu.zero_(), solver.sigma.fill_(1), solver.out_scale.fill_(1)
    if not solver.normalize:
        return
    train = ~pairs.held
    z = solver.normalized(pairs.u, pairs.s, pairs.params)[train]
    if not solver.preserve_equilibria:  # there the features stay centred at 0, the equilibrium
        solver.mu.copy_(z.mean(0))
    scale = (z - solver.mu).square().mean(0).sqrt()
    solver.sigma.copy_(torch.where(scale > 1e-12 * (1 + z.abs().amax(0)), scale, 1.0))
    solver.out_scale.copy_(error_scale(pairs))


@torch.no_grad()
def _fit_linear(solver: AttSolver, pairs: Pairs, ridge: float) -> None:
    """W_lin and b_2 as the ridge solution; one system of d_in equations."""
    train = ~pairs.held
    z = solver.normalized(pairs.u, pairs.s, pairs.params)[train]
    e = pairs.error[train] / solver.out_scale
    shift = torch.zeros_like(e[0]) if solver.preserve_equilibria else e.mean(0)
    centre = torch.zeros_like(z[0]) if solver.preserve_equilibria else z.mean(0)
    z = z - centre
    # an orthogonal factor instead of the normal equations: squaring would cost half the digits
    scale = (ridge * len(z)) ** 0.5 * z.square().mean().sqrt().clamp(min=1e-300)
    rows = torch.cat([z, scale * torch.eye(z.shape[1], dtype=z.dtype)])
    right = torch.cat([e - shift, torch.zeros(z.shape[1], e.shape[1], dtype=e.dtype)])
    w = torch.linalg.lstsq(rows, right, driver="gelsd").solution.T
    solver.w_lin.copy_(w)
    solver.b2.copy_(shift - w @ centre)


def _bound(u: Tensor, side: int) -> Tensor:
    reach = u.mean(0) + side * _DEVIATIONS * u.std(0, unbiased=False)
    low, high = u.amin(0), u.amax(0)
    wider = _WIDER * (high - low)
    return torch.minimum(reach, low - wider) if side < 0 else torch.maximum(reach, high + wider)
