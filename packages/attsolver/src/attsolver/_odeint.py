"""``odeint`` with torchdiffeq's signature, for tensors of any shape and tuples of them, differentiable throughout."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch

from ._adaptive import integrate_adaptive
from ._corrector import Corrected
from ._eager import FixedStep, Stepper
from ._event import AdaptiveStep, find_event
from ._method import Method, find_method, method_names
from ._native import installed
from ._rhs import ComponentwiseRHS
from ._solution import MEANING, SolverError, hermite
from ._solve import solve
from ._symplectic import SplittingStep, check_separable
from ._tableaus import TABLEAUS
from .systems import System

State = torch.Tensor | tuple[torch.Tensor, ...]
_THEIRS = ("dopri8", "bosh3", "fehlberg2", "adaptive_heun", "heun3", "explicit_adams", "implicit_adams", "fixed_adams")
_FIXED_OPTIONS = {"step_size", "grid_constructor", "interp"}
_ADAPTIVE_OPTIONS = {"first_step", "max_num_steps"}


def odeint(
    func: Any,
    y0: State,
    t: torch.Tensor,
    *,
    rtol: float = 1e-7,
    atol: float = 1e-9,
    method: str | Corrected | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Callable[[torch.Tensor, Any], torch.Tensor] | None = None,
) -> Any:
    """Solve ``dy/dt = func(t, y)`` as torchdiffeq's ``odeint`` does.

    The state is one system: an adaptive method takes one step for all of it (``solve`` gives every trajectory its own).
    Gradients reach y0, t and whatever func holds.

    Args:
        func: ``f(t, y)`` with a scalar tensor t and y like y0; also a system or a component-wise right-hand side, which
            the native engine runs when no gradient is asked for.
        y0: A tensor of any shape, or a tuple of tensors.
        t: 1-D tensor of times, rising or falling.
        rtol: Relative tolerance of ``dopri5`` and ``dop853``.
        atol: Absolute tolerance; also the accuracy of an event time.
        method: euler, midpoint, heun2, rk4, dopri5 (the default) as in torchdiffeq; rk3, rk4_classic, dop853, leapfrog,
            pefrl; or an ``AttSolver``. torchdiffeq's other methods are passed on to it.
        options: Of fixed steps: ``step_size``, or ``grid_constructor`` (``(func, y0, t) -> grid``), and ``interp``,
            ``"linear"`` or ``"cubic"``. Of adaptive ones: ``first_step``, ``max_num_steps``.
        event_fn: Stop where ``event_fn(t, y)`` changes sign; of several values, the first to do so. t is then
            ``(t0, any later or earlier time)``, which only gives the direction.

    Returns:
        States like y0 with the times as a new first dimension; with an event ``(event_t, states)``, two states.

    Raises:
        ValueError: For times, methods or options that make no sense, or a corrector that is asked to go back in time.
        SolverError: When the step of an adaptive method becomes too small.

    Example:
        >>> odeint(lambda t, y: -y, torch.ones(1), torch.tensor([0.0, 1.0]))
        tensor([[1.0000],
                [0.3679]])
    """
    if method in _THEIRS or method == "scipy_solver":
        from .integrations.torchdiffeq import pass_on

        return pass_on(func, y0, t, rtol=rtol, atol=atol, method=method, options=options, event_fn=event_fn)
    _check_times(t, event_fn is not None)
    name = "dopri5" if method is None else "heun" if method == "heun2" else method
    if isinstance(name, str) and (name not in method_names() or name == "expm"):
        raise ValueError(
            f"there is no method {name!r}; expected heun2, {', '.join(TABLEAUS)}, an AttSolver, or {_THEIRS}"
        )
    given = dict(options or {})
    adaptive = name in ("dopri5", "dop853") and not (_FIXED_OPTIONS & set(given))
    found = find_method(name, None if adaptive else 1.0)
    allowed = _ADAPTIVE_OPTIONS if adaptive else _FIXED_OPTIONS
    if set(given) - allowed:
        raise ValueError(f"{found.name} knows the options {sorted(allowed)}; got {sorted(set(given) - allowed)}")
    flat, f, rebuild, event = _flatten(func, y0, event_fn, found)
    if found.arrays is not None and bool(t[-1] < t[0]):
        raise ValueError("a corrector knows forward time only; use its base method to go back")
    problem = _Problem(f, flat, t, found, given, rtol, atol)
    if event is not None:
        event_t, states = problem.until(event)
        return event_t, rebuild(states)
    native = _native(func, y0, t, found, given, rtol, atol)
    return rebuild(problem.solve()) if native is None else native


def _check_times(t: torch.Tensor, event: bool) -> None:
    if not isinstance(t, torch.Tensor) or not t.is_floating_point() or t.ndim != 1 or t.numel() < 1 + event:
        raise ValueError("t is a 1-D tensor of floating-point times" + ", two of them with an event" * event)
    gaps = t.detach().diff()
    if not bool(torch.isfinite(t.detach()).all()) or not (bool((gaps > 0).all()) or bool((gaps < 0).all())):
        raise ValueError(f"times must be finite and rise or fall strictly; got {t.tolist()}")


def _native(
    func: Any, y0: State, t: torch.Tensor, method: Method, options: dict[str, Any], rtol: float, atol: float
) -> torch.Tensor | None:
    """The states by the native engine, or None where it does not apply."""
    rhs = func.rhs if isinstance(func, System) else func
    network: Any = method.corrected
    held = isinstance(network, torch.nn.Module) and any(p.requires_grad for p in network.parameters())
    if (
        not isinstance(rhs, ComponentwiseRHS)
        or not isinstance(y0, torch.Tensor)
        or y0.ndim not in (1, 2)
        or y0.device.type != "cpu"
        or set(options) - {"first_step"}
        or t.numel() < 2
        or not installed()
        or (torch.is_grad_enabled() and (y0.requires_grad or t.requires_grad or held))
    ):
        return None
    tolerances = {"rtol": rtol, "atol": atol} if method.kind == "adaptive" else {}
    name = method.corrected or method.name
    free = {} if method.kind == "adaptive" or method.corrected else {"dt": float(t.diff().abs().max())}
    solution = solve(rhs, y0, t=t, method=name, backend="native", check="raise", **tolerances, **free)  # type: ignore[arg-type]
    return solution.y.movedim(-2, 0)


def _flatten(
    func: Any, y0: State, event_fn: Any, method: Method
) -> tuple[torch.Tensor, Callable[..., Any], Callable[[torch.Tensor], State], Any]:
    """The state as one tensor, func and event on it, and the way back."""
    if isinstance(y0, torch.Tensor):
        if not y0.is_floating_point() or y0.dtype in (torch.float16, torch.bfloat16):
            raise TypeError(f"states are float32 or float64; got {y0.dtype}")
        return y0, func.rhs if isinstance(func, System) else func, lambda states: states, event_fn
    if method.kind in ("corrected", "splitting"):
        raise ValueError(f"{method.name} reads the state's components: give y0 as one tensor (..., d), not as a tuple")
    shapes = [part.shape for part in y0]
    sizes = [part.numel() for part in y0]

    def parts(flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        lead = flat.shape[:-1]
        return tuple(p.reshape(*lead, *shape) for p, shape in zip(torch.split(flat, sizes, -1), shapes, strict=True))

    def f(t: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        return torch.cat([one.reshape(-1) for one in func(t, parts(flat))])

    event = None if event_fn is None else lambda t, flat: event_fn(t, parts(flat))
    return torch.cat([part.reshape(-1) for part in y0]), f, parts, event


class _Problem:
    """One initial value problem on a single tensor."""

    def __init__(
        self,
        f: Any,
        y0: torch.Tensor,
        t: torch.Tensor,
        method: Method,
        options: dict[str, Any],
        rtol: float,
        atol: float,
    ) -> None:
        self.f, self.y0, self.method, self.options, self.rtol, self.atol = f, y0, method, options, rtol, atol
        self.t = t.to(y0.device)
        self.interp = options.get("interp", "linear")
        if self.interp not in ("linear", "cubic"):
            raise ValueError(f"interp is linear or cubic; got {self.interp!r}")
        if "step_size" in options and "grid_constructor" in options:
            raise ValueError("step_size and grid_constructor exclude each other")

    def solve(self) -> torch.Tensor:
        """States at all times."""
        if self.t.numel() == 1:
            return self.y0[None]
        return self._adaptive() if self.method.kind == "adaptive" else self._fixed()

    def _stepper(self) -> Stepper:
        method, dim = self.method, self.y0.shape[-1] if self.y0.ndim else 1
        if method.splitting is not None:
            if not isinstance(self.f, ComponentwiseRHS):
                raise ValueError(f"{method.name} needs a component-wise right-hand side with positions (attsolver.rhs)")
            return SplittingStep(self.f, method.splitting, check_separable(self.f, dim))
        assert method.tableau is not None
        if method.arrays is not None and method.arrays.dim != dim:
            raise ValueError(f"the corrector has {method.arrays.dim} states, y0 has {dim} in its last dimension")
        return FixedStep(self.f, method.tableau, method.corrected)

    def _grid(self) -> torch.Tensor:
        t = self.t
        step = self.options.get("step_size")
        if step is None and self.method.arrays is not None and "grid_constructor" not in self.options:
            step = self.method.arrays.dt
        if step is not None:
            if not float(step) > 0:
                raise ValueError(f"step_size must be positive; got {step}")
            sign = 1.0 if bool(t[-1] > t[0]) else -1.0
            count = int(torch.ceil((t[-1] - t[0]).abs().detach() / step * (1 - 1e-6)))
            return torch.cat([t[0] + sign * step * torch.arange(max(1, count)).to(t), t[-1:]])
        if "grid_constructor" in self.options:
            grid: torch.Tensor = self.options["grid_constructor"](self.f, self.y0, t)
            if not (bool(grid[0] == t[0]) and bool(grid[-1] == t[-1])):
                raise ValueError("the grid must begin and end with t")
            return grid
        return t

    def _check_step(self, dt: torch.Tensor, last: bool) -> None:
        arrays = self.method.arrays
        if arrays is None or abs(float(dt) - arrays.dt) <= 1e-4 * arrays.dt:
            return
        if not (last and arrays.scaling == "power" and float(dt) < arrays.dt):
            raise ValueError(
                f"the corrector was trained with dt={arrays.dt:g}; the grid has a step of {float(dt):g}. Set "
                f"options={{'step_size': {arrays.dt:g}}} and let t end at a multiple of it"
            )

    def _fixed(self) -> torch.Tensor:
        step, grid, y = self._stepper(), self._grid(), self.y0
        sign = 1.0 if bool(grid[-1] > grid[0]) else -1.0
        states, j = [y], 1
        for i, (t0, t1) in enumerate(pairwise(grid)):
            self._check_step(t1 - t0, i == grid.numel() - 2)
            after = step(t0, y, t1 - t0)
            while j < self.t.numel() and bool(sign * t1 >= sign * self.t[j]):
                states.append(self._between(t0, y, t1, after, self.t[j]))
                j += 1
            y = after
        return torch.stack(states)

    def _between(self, t0: torch.Tensor, y0: torch.Tensor, t1: torch.Tensor, y1: torch.Tensor, t: torch.Tensor) -> Any:
        if bool(t == t1):
            return y1
        s = (t - t0) / (t1 - t0)
        if self.interp == "linear":
            return y0 + s * (y1 - y0)
        return hermite(s, t1 - t0, y0, self.f(t0, y0), y1, self.f(t1, y1))

    def _batched(self) -> tuple[Callable[[Any, torch.Tensor], torch.Tensor], torch.Tensor]:
        shape = self.y0.shape
        return lambda t, y: self.f(t[0], y[0].reshape(shape)).reshape(1, -1), self.y0.reshape(1, -1)

    def _adaptive(self) -> torch.Tensor:
        f, y = self._batched()
        assert self.method.tableau is not None
        if self.t.requires_grad:  # a later start is a start from an earlier point of the same solution
            y = y - (self.t[0] - self.t[0].detach()) * f(self.t[:1].detach(), y)
        states, status, _ = integrate_adaptive(
            f,
            self.method.tableau,
            y,
            self.t.detach().double(),
            rtol=self.rtol,
            atol=self.atol,
            max_steps=int(self.options.get("max_num_steps", 2**31 - 1)),
            first_step=self.options.get("first_step"),
        )
        if bool(status.any()):
            raise SolverError(
                f"{self.method.name}: {MEANING[int(status[0])]}; a stiff problem needs an implicit method"
            )
        states = states.reshape(-1, *self.y0.shape)
        if self.t.requires_grad:
            moved = [y + (t - t.detach()) * self.f(t.detach(), y) for t, y in zip(self.t[1:], states, strict=True)]
            states = torch.stack(moved)
        return torch.cat([self.y0[None], states])

    def until(
        self, event_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Event time, and the states at the start and at the event."""
        sign = 1.0 if bool(self.t[1] > self.t[0]) else -1.0
        if self.method.kind == "adaptive":
            f, y = self._batched()
            shape = self.y0.shape
            assert self.method.tableau is not None
            first = float(self.options.get("first_step") or 1e-3)
            steps = AdaptiveStep(f, self.method.tableau, sign, self.rtol, self.atol, first)
            event_t, state = find_event(
                steps.advance, steps.between, lambda t, y: event_fn(t, y.reshape(shape)), self.t[0], y, self.atol
            )
            return event_t, torch.stack([self.y0, state.reshape(shape)])
        length = self.options.get("step_size", self.method.arrays.dt if self.method.arrays else None)
        if length is None:
            raise ValueError("an event with fixed steps needs options={'step_size': ...}")
        step = self._stepper()

        def advance(t: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return t + sign * length, step(t, y, sign * length)  # type: ignore[arg-type]

        event_t, state = find_event(advance, self._between, event_fn, self.t[0], self.y0, self.atol)
        return event_t, torch.stack([self.y0, state])
