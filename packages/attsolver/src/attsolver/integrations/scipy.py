"""scipy: fixed steps of attsolver's methods, corrected or not, inside ``scipy.integrate.solve_ivp``."""

from typing import Any

import numpy as np
import torch
from sail_core.extras import needs

from attsolver._corrector import Corrected
from attsolver._eager import FixedStep
from attsolver._method import find_method

with needs("attsolver", "scipy"):
    from scipy.integrate import DenseOutput, OdeSolver


class AttSolverIVP(OdeSolver):
    """A method class for ``solve_ivp(fun, t_span, y0, method=AttSolverIVP, solver=..., dt=...)``.

    Fixed steps; the last one is shortened. Dense output (and with it events) is by cubic Hermite interpolation.

    Args:
        fun: As scipy gives it.
        t0: Start.
        y0: State (d,).
        t_bound: End.
        vectorized: As scipy gives it.
        solver: An ``AttSolver`` or the name of a Runge-Kutta method.
        dt: Step; that of the corrector when None.

    Raises:
        ValueError: Without a step, or for a corrector that is asked to go back or to take another step.

    Example:
        >>> from scipy.integrate import solve_ivp
        >>> solve_ivp(lambda t, y: -y, (0.0, 1.0), [1.0], method=AttSolverIVP, solver="rk4", dt=0.1).y[0, -1].round(6)
        np.float64(0.36788)
    """

    def __init__(
        self,
        fun: Any,
        t0: float,
        y0: Any,
        t_bound: float,
        vectorized: bool = False,
        *,
        solver: Corrected | str,
        dt: float | None = None,
        **extraneous: Any,
    ) -> None:
        del extraneous  # solve_ivp hands rtol and others to every method
        super().__init__(fun, t0, y0, t_bound, vectorized)
        method = find_method(solver, 1.0)
        if method.tableau is None:
            raise ValueError(f"AttSolverIVP takes Runge-Kutta methods and AttSolvers; got {method.name}")
        arrays = method.arrays
        dt = arrays.dt if dt is None and arrays is not None else dt
        if dt is None or not dt > 0:
            raise ValueError(f"dt must be positive; got {dt}")
        if arrays is not None and (abs(dt - arrays.dt) > 1e-6 * arrays.dt or t_bound < t0 or arrays.dim != self.n):
            raise ValueError(
                f"the corrector has {arrays.dim} states, dt={arrays.dt:g} and forward time; got {self.n} states, "
                f"dt={dt:g} and t_span=({t0:g}, {t_bound:g})"
            )
        self._dt, self._start, self._count = dt, t0, 0
        self._step = FixedStep(self._torch_fun, method.tableau, method.corrected)
        self._left = np.asarray(y0, dtype=float)

    def _torch_fun(self, t: Any, y: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(np.asarray(self.fun(float(t), y.detach().numpy()), dtype=float))

    t: float
    y: Any

    def _step_impl(self) -> tuple[bool, str | None]:
        self._count += 1
        ahead = self._start + self.direction * self._count * self._dt
        if self.direction * (ahead - self.t_bound) >= -1e-9 * self._dt:
            ahead = self.t_bound
        self._left = self.y
        h = ahead - self.t
        with torch.no_grad():
            after = self._step(self.t, torch.as_tensor(self.y), self._dt if abs(h - self._dt) < 1e-9 * self._dt else h)
        self.t, self.y = ahead, after.numpy()
        if not np.isfinite(self.y).all():
            return False, "the state is not finite; take a smaller dt, or method='Radau' for a stiff problem"
        return True, None

    def _dense_output_impl(self) -> "_Hermite":
        return _Hermite(
            self.t_old, self.t, self._left, self.y, self.fun(self.t_old, self._left), self.fun(self.t, self.y)
        )


class _Hermite(DenseOutput):
    def __init__(self, t_old: float, t: float, y0: Any, y1: Any, f0: Any, f1: Any) -> None:
        super().__init__(t_old, t)
        self.parts = (y0, y1, np.asarray(f0), np.asarray(f1))

    def _call_impl(self, t: Any) -> Any:
        y0, y1, f0, f1 = (part if np.ndim(t) == 0 else part[:, None] for part in self.parts)
        h = self.t - self.t_old
        s = (t - self.t_old) / h
        return (
            (1 + 2 * s) * (1 - s) ** 2 * y0
            + s * (1 - s) ** 2 * h * f0
            + s**2 * (3 - 2 * s) * y1
            + s**2 * (s - 1) * h * f1
        )
