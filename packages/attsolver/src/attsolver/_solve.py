"""``solve``: initial states in, states at the kept times out, by any method on any backend."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from . import _triton
from ._adaptive import integrate_adaptive
from ._compile import compiled_steps
from ._corrector import Corrected
from ._eager import FixedStep, Stepper, increment, integrate
from ._expm import check_linear, integrate_linear
from ._grid import Grid, Save, make_grid, output_times
from ._inputs import check_corrected, check_state, check_tolerances
from ._method import Method, find_method
from ._native import installed, run_adaptive, run_fixed
from ._rhs import ComponentwiseRHS, Value
from ._solution import MEANING, OUT_OF_DOMAIN, OutOfDomainWarning, Solution, SolverError
from ._symplectic import SplittingStep, check_separable
from .systems import System

Func = Callable[[Any, torch.Tensor], torch.Tensor]
Backend = Literal["auto", "eager", "compile", "native", "triton"]
OnLeaving = Literal["warn", "fallback", "ignore"]


def solve(
    func: System | ComponentwiseRHS | Func,
    y0: torch.Tensor,
    *,
    t: Sequence[float] | torch.Tensor,
    method: str | Corrected = "rk4",
    backend: Backend = "auto",
    dt: float | None = None,
    save: Save = "all",
    params: Mapping[str, Value] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100_000,
    max_norm: float | None = None,
    out_of_domain: OnLeaving = "warn",
    allow_mismatch: bool = False,
    checkpoint: int | bool = False,
    check: Literal["auto", "raise", "mask"] = "auto",
) -> Solution:
    """Solve ``y' = f(t, y)`` for a batch of initial states, each trajectory for itself.

    Args:
        func: A system, a component-wise right-hand side (``attsolver.rhs``), or any ``f(t, y)`` on tensors (n, d).
        y0: Initial states (n, d), or one state (d,); float32 or float64.
        t: (t0, t1) together with dt, or a 1-D tensor of output times. The last step before an output time is shortened
            where dt does not divide the way to it. t1 < t0 goes back in time.
        method: euler, midpoint, heun, rk3, rk4 (the 3/8 rule, as in torchdiffeq), rk4_classic, dopri5, dop853; leapfrog
            and pefrl for separable systems; expm for linear ones; or an ``AttSolver``.
        backend: ``eager`` (plain torch, differentiable), ``compile`` (torch.compile), ``native`` (numba, on the CPU,
            for component-wise right-hand sides), ``triton`` (a GPU, component-wise right-hand sides: all fixed
            Runge-Kutta steps in one launch; its speed is unmeasured, so that only its name chooses it), or ``auto``:
            native where it can run and no gradient is asked for, else eager.
        dt: Step. dopri5 and dop853 without dt choose their steps by rtol and atol; for output times without dt the
            other methods take one step from each to the next. An AttSolver brings its own.
        save: ``"all"`` (every output time, or every step of a span), ``"last"``, or k (every k-th of these).
        params: Parameters that differ from the right-hand side's own; a tensor (n,) gives each trajectory its own.
        rtol: Relative tolerance of adaptive steps; 1e-6 when None.
        atol: Absolute tolerance; 1e-9 when None.
        max_steps: Adaptive attempts from one output time to the next.
        max_norm: A trajectory stops with status 2 where any ``|y_i|`` exceeds this; looked at every 16 steps.
        out_of_domain: What a corrector does outside the states it was trained on: warn, ``"fallback"`` to four base
            steps of a quarter each, or ignore.
        allow_mismatch: Let a corrector run with another dt, or on other parameters than it was trained with.
        checkpoint: Memory of the backward pass: False keeps everything, True recomputes segments of about sqrt(steps)
            steps, an int sets their length. The gradient is the exact one of the discrete solution either way.
        check: What happens when a trajectory fails: ``"raise"``, ``"mask"`` (status and NaN), or ``"auto"``: raise
            for one state (d,), mask for a batch.

    Returns:
        Solution with ``y`` (n, T, d), or (T, d) for one state.

    Raises:
        ValueError: For arguments that make no sense together; the message says what to change.
        TypeError: For states that are not float32 or float64.
        SolverError: When a trajectory fails and ``check`` says so.

    Example:
        >>> from attsolver import systems
        >>> system = systems.get("henon_heiles")
        >>> solution = solve(system, system.sample(2), t=(0.0, 10.0), dt=0.5, save="last", backend="eager")
        >>> solution.y.shape
        torch.Size([2, 1, 4])
    """
    rhs = func.rhs if isinstance(func, System) else func if isinstance(func, ComponentwiseRHS) else None
    check_state(y0)
    found = find_method(method, dt)
    if found.arrays is not None and dt is None:
        dt = found.arrays.dt
    rtol, atol = check_tolerances(found, rtol, atol)
    if rhs is None and params:
        raise ValueError("params belong to component-wise right-hand sides; bind them into func instead")
    flat = rhs.flat_params(params, y0) if rhs is not None else None
    chosen = _choose(backend, found, rhs, y0, flat)
    f = _function(func, rhs, flat)
    if found.kind == "adaptive":
        if chosen == "compile":
            raise ValueError("backend='compile' takes fixed steps; give dt, or take eager or native")
        native = rhs if chosen == "native" else None
        solution = _adaptive(f, native, flat, found, y0, t, save, rtol, atol, max_steps, rhs is None)
    elif found.kind == "expm":
        solution = _linear(f, rhs, flat, y0, t, dt, save)
    else:
        grid = make_grid(t, dt, save)
        if found.arrays is not None:
            check_corrected(found.arrays, grid, y0.shape[-1], rhs, params, allow_mismatch)
        solution = _fixed(func, f, rhs, flat, found, y0, grid, chosen, max_norm, out_of_domain, checkpoint)
    return _finish(solution, check, out_of_domain, y0.ndim == 1)


def step(
    func: System | ComponentwiseRHS | Func,
    t: float,
    y: torch.Tensor,
    dt: float,
    *,
    method: str | Corrected = "rk4",
    params: Mapping[str, Value] | None = None,
) -> torch.Tensor:
    """One differentiable step of a fixed-step method.

    Args:
        func: As in ``solve``.
        t: Time at the start.
        y: States (..., d).
        dt: Length of the step; negative goes back.
        method: A method of fixed steps, or an ``AttSolver``.
        params: As in ``solve``.

    Returns:
        States after the step, (..., d).

    Raises:
        ValueError: For a method that has no single step, or a corrector with a negative dt.

    Example:
        >>> step(lambda t, y: -y, 0.0, torch.ones(1, 2), 0.1)
        tensor([[0.9048, 0.9048]])
    """
    rhs = func.rhs if isinstance(func, System) else func if isinstance(func, ComponentwiseRHS) else None
    found = find_method(method, dt)
    if found.kind == "expm":
        raise ValueError('expm has no step of its own; use solve(..., method="expm")')
    if not math.isfinite(dt) or dt == 0:
        raise ValueError(f"dt must be finite and not 0; got {dt}")
    if found.arrays is not None and dt < 0:
        raise ValueError("a corrector knows forward time only; use its base method to go back")
    flat = rhs.flat_params(params, y) if rhs is not None else None
    return _stepper(_function(func, rhs, flat), rhs, flat, found, y, False)(t, y, dt)


def _function(func: Any, rhs: ComponentwiseRHS | None, flat: torch.Tensor | None) -> Func:
    if rhs is None:
        return func  # type: ignore[no-any-return]
    return lambda t, y: rhs.flat(t, y, flat)


def _choose(
    backend: str, method: Method, rhs: ComponentwiseRHS | None, y0: torch.Tensor, flat: torch.Tensor | None
) -> str:
    if backend == "native" or backend == "auto":
        obstacle = _obstacle(method, rhs, y0, flat)
        if obstacle is None:
            return "native"
        if backend == "native":
            raise ValueError(f"the native backend {obstacle}")
        return "eager"
    if backend == "triton":
        obstacle = _triton.obstacle(method, rhs, y0) or _gradient(method, y0, flat)
        if obstacle is not None:
            raise ValueError(f"the triton backend {obstacle}")
    elif backend not in ("eager", "compile"):
        raise ValueError(f"backend is auto, eager, compile, native or triton; got {backend!r}")
    return backend


def _gradient(method: Method, y0: torch.Tensor, flat: torch.Tensor | None) -> str | None:
    """That a gradient is asked for, of which the fused engines know nothing, or None."""
    if torch.is_grad_enabled():
        network: Any = method.corrected
        trained = isinstance(network, torch.nn.Module) and any(p.requires_grad for p in network.parameters())
        if y0.requires_grad or (flat is not None and flat.requires_grad) or trained:
            return "has no gradient; use backend='eager', or torch.no_grad() where none is wanted"
    return None


def _obstacle(method: Method, rhs: ComponentwiseRHS | None, y0: torch.Tensor, flat: torch.Tensor | None) -> str | None:
    """Why the native engine cannot run this, or None."""
    if method.kind == "expm":
        return "has no expm; its matrix products run on backend='eager'"
    if rhs is None:
        return "compiles component-wise right-hand sides only; write f(t, x, p, m) under @attsolver.rhs"
    if y0.device.type != "cpu":
        return f"runs on the CPU; y0 is on {y0.device}"
    gradient = _gradient(method, y0, flat)
    if gradient is not None:
        return gradient
    if not installed():
        return "needs numba: pip install 'attsolver[native]'"
    return None


def _stepper(
    f: Func,
    rhs: ComponentwiseRHS | None,
    flat: torch.Tensor | None,
    method: Method,
    y: torch.Tensor,
    fallback: bool,
) -> Stepper:
    if method.splitting is not None:
        if rhs is None:
            raise ValueError(f"{method.name} needs a component-wise right-hand side with positions (attsolver.rhs)")
        return SplittingStep(f, method.splitting, check_separable(rhs, y.shape[-1]))
    assert method.tableau is not None
    if method.arrays is not None and method.arrays.conditioning:
        if rhs is None:
            raise ValueError("a conditioned corrector needs a component-wise right-hand side (attsolver.rhs)")
        flat = rhs.default_params(y) if flat is None else flat
    return FixedStep(f, method.tableau, method.corrected, params=flat, fallback=fallback)


def _fixed(
    func: object,
    f: Func,
    rhs: ComponentwiseRHS | None,
    flat: torch.Tensor | None,
    method: Method,
    y0: torch.Tensor,
    grid: Grid,
    backend: str,
    max_norm: float | None,
    out_of_domain: str,
    checkpoint: int | bool,
) -> Solution:
    nfev = grid.steps * method.evaluations + (method.name == "leapfrog")
    times = torch.from_numpy(grid.times.copy()).to(y0.device)  # a grid is kept for the next solve
    if backend in ("native", "triton") and rhs is not None:
        single = y0.ndim == 1
        batch = (y0[None] if single else y0).detach().contiguous()
        y: torch.Tensor
        status: torch.Tensor | None
        outside: torch.Tensor | None = None
        if backend == "triton":
            y, status = _triton.run_fixed(rhs, flat, method, batch, grid, max_norm=max_norm)
        else:
            y, status, outside = run_fixed(
                rhs, flat, method, batch, grid, max_norm=max_norm, fallback=out_of_domain == "fallback"
            )
        if not single:
            return Solution(times, y.transpose(0, 1), status, nfev, outside, f)
        first = (None if x is None else x[0] for x in (status, outside))
        return Solution(times, y[:, 0], next(first), nfev, next(first), f)
    stepper = _stepper(f, rhs, flat, method, y0, out_of_domain == "fallback")
    segment = math.isqrt(grid.steps) + 1 if checkpoint is True else int(checkpoint)
    compiled = None
    if backend == "compile":
        if not isinstance(stepper, FixedStep):
            raise ValueError(f"backend='compile' runs Runge-Kutta methods and AttSolvers; {method.name} runs on eager")
        compiled = compiled_steps(func, method, stepper, flat is not None).run
    y, status = integrate(stepper, y0, grid, max_norm=max_norm, segment=segment, compiled=compiled)
    outside = stepper.out_of_domain if isinstance(stepper, FixedStep) else None
    return Solution(times, y.movedim(0, -2), status, nfev, outside, f)


def _adaptive(
    f: Func,
    native: ComponentwiseRHS | None,
    flat: torch.Tensor | None,
    method: Method,
    y0: torch.Tensor,
    t: Sequence[float] | torch.Tensor,
    save: Save,
    rtol: float,
    atol: float,
    max_steps: int,
    generic: bool,
) -> Solution:
    at = output_times(t)[0]
    times = torch.as_tensor(at, device=y0.device)
    batch = y0.reshape(-1, y0.shape[-1])

    def per_trajectory(at: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not generic:
            return f(at, y)
        return f(at[0], y[0])[None] if y0.ndim == 1 else f(at[:, None], y)

    assert method.tableau is not None
    if native is not None:
        batch = batch.detach().contiguous()
        states, status, attempts = run_adaptive(
            native, flat, method, batch, at, rtol=rtol, atol=atol, max_steps=max_steps
        )
    else:
        states, status, attempts = integrate_adaptive(
            per_trajectory, method.tableau, batch, times, rtol=rtol, atol=atol, max_steps=max_steps
        )
    y, kept = _keep(torch.cat([batch[None], states]), times, save)
    nfev = 1 + attempts * (method.evaluations + (len(method.tableau.error) > method.evaluations))
    y = y.movedim(0, -2)
    if y0.ndim == 1:
        return Solution(kept, y[0], status[0], nfev[0], None, f)
    return Solution(kept, y, status, nfev, None, f)


def _linear(
    f: Func,
    rhs: ComponentwiseRHS | None,
    flat: torch.Tensor | None,
    y0: torch.Tensor,
    t: Sequence[float] | torch.Tensor,
    dt: float | None,
    save: Save,
) -> Solution:
    if rhs is None:
        raise ValueError("expm needs a component-wise right-hand side (attsolver.rhs), which it can see to be linear")
    check_linear(rhs, y0.shape[-1])
    times, span = output_times(t)
    if span and dt is not None:
        times = make_grid(t, dt, "all").times
    at = torch.as_tensor(times, device=y0.device)
    batch = y0.reshape(-1, y0.shape[-1])
    y, kept = _keep(torch.cat([batch[None], integrate_linear(rhs, batch, at, flat)]), at, save)
    y = y.movedim(0, -2)
    return Solution(kept, y[0] if y0.ndim == 1 else y, None, y0.shape[-1] + 1, None, f)


def _keep(y: torch.Tensor, times: torch.Tensor, save: Save) -> tuple[torch.Tensor, torch.Tensor]:
    kept = slice(-1, None) if save == "last" else slice(None, None, save if isinstance(save, int) else 1)
    return y[kept], times[kept]


def _finish(solution: Solution, check: str, out_of_domain: str, single: bool) -> Solution:
    if check not in ("auto", "raise", "mask"):
        raise ValueError(f"check is auto, raise or mask; got {check!r}")
    if out_of_domain not in ("warn", "fallback", "ignore"):
        raise ValueError(f"out_of_domain is warn, fallback or ignore; got {out_of_domain!r}")
    status = solution._status
    outside = solution._out_of_domain
    if outside is not None and out_of_domain != "ignore" and bool((outside > 0).any()):
        status = solution.status
        solution._status = torch.where((outside > 0) & (status == 0), OUT_OF_DOMAIN, status)
        if out_of_domain == "warn":
            warnings.warn(
                f"{int((outside > 0).sum())} trajectories left the states that the corrector was trained on "
                f"(most often for {int(outside.max())} steps); out_of_domain='fallback' or 'ignore' says what to do",
                OutOfDomainWarning,
                stacklevel=3,
            )
    if status is not None and (check == "raise" or (check == "auto" and single)):
        failed = (status != 0) & (status != OUT_OF_DOMAIN)
        if bool(failed.any()):
            first = int(failed.reshape(-1).nonzero()[0])
            meaning = MEANING[int(status.reshape(-1)[first])]
            raise SolverError(
                f"trajectory {first} failed: {meaning}. A smaller dt or tolerance may help; a stiff problem needs an "
                "implicit method, such as scipy's solve_ivp(method='Radau'). check='mask' returns the others"
            )
    return solution


__all__ = ["increment", "solve", "step"]
