"""Which method to take for a system, an accuracy and a batch: measured, with "no corrector" among the answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ._attsolver import AttSolver
from ._fit import fit
from ._generate import generate
from ._measure import Task, classical_methods, is_linear, make_task
from ._stiffness import check_stiffness
from ._tableaus import TABLEAUS
from .systems import System

_SUBSTEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 400, 600, 800)
_HOPELESS = 30
_OUTPUTS, _SPACING = 10, 5  # output times, and their distance in the system's dt


@dataclass(frozen=True)
class Candidate:
    """One method that was looked at.

    Attributes:
        method: Name; a corrected method is ``base + h<width>``.
        dt: Step, None for adaptive steps and expm.
        rtol: Tolerance of adaptive steps, else None.
        error: Relative RMS error on unseen trajectories, None when it was not trained.
        nfev: Evaluations of f for a trajectory over the horizon.
        microseconds: Time of a trajectory over the horizon at the wanted batch, None when it cannot reach the accuracy.
        note: Why it is out, or empty.
    """

    method: str
    dt: float | None
    rtol: float | None
    error: float | None
    nfev: int | None
    microseconds: float | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Advice:
    """The answer of ``advise``.

    Attributes:
        best: The cheapest candidate that reaches the accuracy.
        candidates: All of them, the cheapest first, those that are out last.
        solver: The trained corrector when it is the best, else None.
        reason: The answer in a sentence.
    """

    best: Candidate
    candidates: list[Candidate]
    reason: str
    solver: AttSolver | None = field(default=None, repr=False)

    def table(self) -> str:
        """The candidates as aligned lines."""
        rows = [["method", "dt", "rtol", "error", "nfev", "us/trajectory", ""]]
        for c in self.candidates:
            numbers = [_number(x) for x in (c.dt, c.rtol, c.error, c.nfev, c.microseconds)]
            rows.append([c.method, *numbers, c.note])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def advise(
    system: System,
    *,
    rtol: float = 1e-4,
    batch: int = 100,
    widths: Sequence[int] = (8, 16, 32, 64),
    steps: Sequence[float] = (2.5, 1.0, 0.5),
    base: str = "rk4",
    iterations: int = 600,
    seed: int = 0,
) -> Advice:
    """Find the cheapest method that solves a system to a relative error, at a batch size, on this machine.

    Looked at are rk4, dopri5 and dop853 with fixed steps, dopri5 and dop853 with adaptive ones, leapfrog and pefrl for
    separable systems, expm for linear ones, and ``base`` with correctors of several widths and steps. The time of every
    corrector is measured before it is trained; one that would be dearer than the best classical method even if it were
    exact is not trained.

    Args:
        system: The system; its ``dt`` sets the horizon of 50 dt.
        rtol: Wanted relative error: RMS over 32 unseen trajectories, 10 times and all components, in units of each
            component's standard deviation.
        batch: Trajectories solved at once.
        widths: Widths of the correctors.
        steps: Their steps, in units of ``system.dt``; divisors of 5.
        base: Their base method.
        iterations: Iterations of each training.
        seed: Of data and trainings.

    Returns:
        Advice.

    Raises:
        StiffProblemError: When the system is stiff at its dt (a ValueError).
        ValueError: For arguments out of range, or when nothing reaches the accuracy.

    Example:
        >>> from attsolver import systems
        >>> advise(systems.get("spring_chain", size=3), rtol=1e-8, batch=1, widths=()).best.error < 1e-8
        True
    """
    if not 0 < rtol < 1 or batch < 1:
        raise ValueError(f"rtol is in (0, 1) and batch at least 1; got rtol={rtol}, batch={batch}")
    if base not in TABLEAUS:
        raise ValueError(f"there is no base method {base!r}; expected one of {', '.join(TABLEAUS)}")
    for one in steps:
        if one <= 0 or abs(_SPACING / one - round(_SPACING / one)) > 1e-9:
            raise ValueError(f"steps divide {_SPACING}; got {one}")
    task = make_task(system, n=32, outputs=_OUTPUTS, spacing=_SPACING * system.dt, seed=seed + 1)
    check_stiffness(system.rhs, task.exact[:, 0], system.dt, TABLEAUS[base])
    found = [fixed_candidate(task, method, rtol, batch) for method in classical_methods(system)]
    found += [_adaptive(task, method, rtol, batch) for method in ("dopri5", "dop853")]
    if is_linear(system):
        y, nfev = task.run("expm", None)
        seconds = task.seconds("expm", None, batch=batch)
        found.append(_judged(Candidate("expm", None, None, task.error(y), nfev, 1e6 * seconds / batch), rtol))
    best = min((c.microseconds for c in found if c.microseconds is not None), default=float("inf"))
    solvers: dict[Candidate, AttSolver] = {}
    for one in steps:
        for hidden in sorted(widths):
            candidate, solver = _corrected(task, base, one * system.dt, hidden, rtol, batch, best, iterations, seed)
            found.append(candidate)
            if candidate.microseconds is not None and solver is not None:
                solvers[candidate] = solver
                best = min(best, candidate.microseconds)
                break  # a wider one costs more
            if candidate.error is not None and candidate.error > _HOPELESS * rtol:
                break  # width does not gain that much
    found.sort(key=lambda c: float("inf") if c.microseconds is None else c.microseconds)
    winner = found[0]
    if winner.microseconds is None:
        raise ValueError(f"nothing here reaches a relative error of {rtol:g} on {system.name}; ask for less")
    return Advice(winner, found, _reason(winner, found, solvers), solvers.get(winner))


def _reason(best: Candidate, found: list[Candidate], solvers: dict[Candidate, AttSolver]) -> str:
    assert best.microseconds is not None
    how = f"dt={best.dt:.6g}" if best.dt else f"rtol={best.rtol:g}" if best.rtol else "exact steps"
    text = f"{best.method}, {how}: {best.microseconds:.3g} us a trajectory, relative error {best.error:.1e}. "
    others = [c for c in found if (c in solvers) != (best in solvers) and c.microseconds is not None]
    if best in solvers:
        assert others[0].microseconds is not None
        return text + f"The corrector pays: {others[0].microseconds / best.microseconds:.2f}x over {others[0].method}"
    if others:
        assert others[0].microseconds is not None
        return text + f"No corrector: the best one is {others[0].microseconds / best.microseconds:.2f}x dearer"
    return text + "No corrector: none reaches the accuracy at this price"


def _judged(candidate: Candidate, rtol: float) -> Candidate:
    if candidate.error is not None and candidate.error <= rtol:
        return candidate
    return Candidate(**(vars(candidate) | {"microseconds": None, "note": "not accurate enough"}))


def fixed_candidate(task: Task, method: str, rtol: float, batch: int) -> Candidate:
    """The longest step of the ladder that is accurate enough, by bisection, and its time."""
    low, high = 0, len(_SUBSTEPS) - 1
    best: tuple[float, float, int] | None = None
    while low <= high:
        middle = (low + high) // 2
        dt = task.spacing / _SUBSTEPS[middle]
        y, nfev = task.run(method, dt)
        error = task.error(y)
        if error <= rtol:
            best, high = (dt, error, nfev), middle - 1
        else:
            low = middle + 1
    if best is None:
        return Candidate(method, dt, None, error, nfev, None, "not accurate enough")
    seconds = task.seconds(method, best[0], batch=batch)
    return Candidate(method, best[0], None, best[1], best[2], 1e6 * seconds / batch)


def _adaptive(task: Task, method: str, rtol: float, batch: int) -> Candidate:
    name, tolerance = f"{method} adaptive", rtol
    for _ in range(8):
        y, nfev = task.run(method, None, rtol=tolerance)
        error = task.error(y)
        if error <= rtol:
            seconds = task.seconds(method, None, batch=batch, rtol=tolerance)
            return Candidate(name, None, tolerance, error, nfev, 1e6 * seconds / batch)
        tolerance *= min(0.5, rtol / error)
        if tolerance < 1e-13:
            break
    return Candidate(name, None, tolerance, error, nfev, None, "not accurate enough")


def _corrected(
    task: Task,
    base: str,
    dt: float,
    hidden: int,
    rtol: float,
    batch: int,
    best: float,
    iterations: int,
    seed: int,
) -> tuple[Candidate, AttSolver | None]:
    name, system = f"{base} + h{hidden}", task.system
    untrained = AttSolver(base, dt, dim=system.dim, hidden=hidden)
    microseconds = 1e6 * task.seconds(untrained, dt, batch=batch, rounds=3) / batch
    if microseconds >= best:
        note = f"not trained: {microseconds:.3g} us even if exact"
        return Candidate(name, dt, None, None, None, None, note), None
    solver = AttSolver(base, dt, hidden=hidden)
    data = generate(system, 100, max(20, round(50 * system.dt / dt)), dt, seed=seed)
    fit(solver, data, seed=seed, iterations=iterations)
    y, nfev = task.run(solver, dt)
    microseconds = 1e6 * task.seconds(solver, dt, batch=batch) / batch
    return _judged(Candidate(name, dt, None, task.error(y), nfev, microseconds), rtol), solver


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
