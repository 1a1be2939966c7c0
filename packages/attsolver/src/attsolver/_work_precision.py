"""Time and evaluations against error, of our methods and of other libraries."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._attsolver import AttSolver
from ._measure import Task, classical_methods, is_linear, least_time, make_task
from ._peers import FIXED, check_peer, installed_peers, peer
from .systems import System


@dataclass(frozen=True)
class WorkPoint:
    """One method at one step or tolerance and one batch.

    Attributes:
        method: Name; a library stands before a colon.
        batch: Trajectories at once.
        dt: Step, None for adaptive steps and expm.
        rtol: Tolerance of adaptive steps, else None.
        rmse: RMS error over trajectories, output times and components, in units of each component's deviation.
        mse: Mean square error in the system's units, over the same.
        nfev: Evaluations of f for a trajectory, None where a library does not say.
        microseconds: Process time of a trajectory, output times included for other libraries.
    """

    method: str
    batch: int
    dt: float | None
    rtol: float | None
    rmse: float
    mse: float
    nfev: int | None
    microseconds: float


def work_precision(
    system: System,
    solvers: Sequence[AttSolver] = (),
    *,
    batches: Sequence[int] = (1, 100),
    substeps: Sequence[int] = (1, 2, 4, 8, 16),
    rtols: Sequence[float] = (1e-3, 1e-5, 1e-7),
    outputs: int = 50,
    peers: Sequence[str] | None = None,
    seed: int = 0,
    rounds: int = 3,
) -> list[WorkPoint]:
    """Measure error and time of every method that makes sense for a system.

    Args:
        system: The system; output times are its ``dt`` apart.
        solvers: Trained correctors to put beside the classical methods.
        batches: Batch sizes.
        substeps: Steps between two output times of the fixed-step methods.
        rtols: Tolerances of the adaptive ones.
        outputs: Output times.
        peers: Other libraries' methods (see ``installed_peers``); None takes all that are installed.
        seed: Of the 64 trajectories.
        rounds: Timed rounds of each; the least counts.

    Returns:
        WorkPoint by WorkPoint. Points whose error is not finite are left out.

    Raises:
        ValueError: For an unknown peer.

    Example:
        >>> from attsolver import systems
        >>> system = systems.get("lotka_volterra")
        >>> points = work_precision(system, batches=(1,), substeps=(1, 2), rtols=(), peers=(), outputs=5)
        >>> sorted({point.method for point in points})
        ['dop853', 'dopri5', 'rk4']
    """
    chosen = installed_peers() if peers is None else peers
    for name in chosen:
        check_peer(name)
    task = make_task(system, n=64, outputs=outputs, spacing=system.dt, seed=seed + 1000)
    cases: list[tuple[str | AttSolver, float | None, float | None]] = [
        (method, system.dt / k, None) for method in classical_methods(system) for k in substeps
    ]
    cases += [(method, None, rtol) for method in ("dopri5", "dop853") for rtol in rtols]
    cases += [("expm", None, None)] * is_linear(system)
    cases += [(solver, solver.dt, None) for solver in solvers]
    points = []
    for method, dt, rtol in cases:
        y, nfev = task.run(method, dt, rtol=rtol)
        for batch in batches:
            seconds = task.seconds(method, dt, batch=batch, rtol=rtol, rounds=rounds)
            points.append(_point(task, _name(method, rtol), y, batch, dt, rtol, nfev, seconds))
    for name in chosen:
        settings = [(system.dt / k, None) for k in substeps] if name in FIXED else [(None, rtol) for rtol in rtols]
        for dt, rtol in settings:
            points += _peer_points(task, name, dt, rtol, batches, rounds)
    return [point for point in points if point.rmse < float("inf")]


def _peer_points(
    task: Task, name: str, dt: float | None, rtol: float | None, batches: Sequence[int], rounds: int
) -> list[WorkPoint]:
    run = peer(name, task.system, step=dt, rtol=rtol)
    start = task.exact[:, 0]
    with torch.no_grad():
        y = run(start, task.t)
        points = []
        for batch in batches:
            y0 = start.repeat(-(-batch // len(start)), 1)[:batch].contiguous()
            seconds = least_time(lambda y0=y0: run(y0, task.t), rounds)  # type: ignore[misc]
            points.append(_point(task, name, y, batch, dt, rtol, None, seconds))
    return points


def _name(method: str | AttSolver, rtol: float | None) -> str:
    if isinstance(method, str):
        return method if rtol is None else f"{method} adaptive"
    return f"{method.base} + h{method.hidden}" if type(method) is AttSolver else f"{method.base} + NeurVec"


def _point(
    task: Task, name: str, y: Tensor, batch: int, dt: float | None, rtol: float | None, nfev: int | None, seconds: float
) -> WorkPoint:
    return WorkPoint(name, batch, dt, rtol, task.error(y), task.mse(y), nfev, 1e6 * seconds / batch)
