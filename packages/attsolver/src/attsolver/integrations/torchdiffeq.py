"""torchdiffeq: its remaining methods for ``attsolver.odeint``, and attsolver as one of its methods."""

from typing import Any

import torch
from sail_core.extras import needs

from attsolver._corrector import Corrected
from attsolver._eager import FixedStep
from attsolver._method import find_method

with needs("attsolver", "torchdiffeq"):
    import torchdiffeq
    from torchdiffeq._impl.odeint import SOLVERS
    from torchdiffeq._impl.solvers import FixedGridODESolver


def pass_on(func: Any, y0: Any, t: torch.Tensor, **arguments: Any) -> Any:
    """``torchdiffeq.odeint`` as it is, for the methods that attsolver does not have."""
    return torchdiffeq.odeint(func, y0, t, **arguments)


class AttSolverMethod(FixedGridODESolver):
    """The method ``"attsolver"`` of torchdiffeq; made by ``register``.

    Options: ``solver``, an ``AttSolver`` (or the name of a base method); ``interp`` as in torchdiffeq. The grid is that
    of the corrector unless ``step_size`` or ``grid_constructor`` says otherwise.
    """

    def __init__(
        self,
        func: Any,
        y0: torch.Tensor,
        *,
        solver: Corrected | str | None = None,
        step_size: Any = None,
        **options: Any,
    ) -> None:
        if solver is None:
            raise ValueError("method 'attsolver' needs options={'solver': an AttSolver}")
        self.method = find_method(solver, 1.0)
        arrays = self.method.arrays
        if arrays is not None and (y0.ndim == 0 or y0.shape[-1] != arrays.dim):
            raise ValueError(
                f"the corrector has {arrays.dim} states; the state has shape {tuple(y0.shape)} (torchdiffeq flattens "
                "tuples, and odeint_adjoint its augmented state: use attsolver.odeint, or adjoint_method='rk4')"
            )
        if step_size is None and arrays is not None and "grid_constructor" not in options:
            step_size = arrays.dt
        super().__init__(func=func, y0=y0, step_size=step_size, **options)
        self.order = self.method.tableau.order if self.method.tableau else 1

    def _step_func(
        self, func: Any, t0: torch.Tensor, dt: torch.Tensor, t1: torch.Tensor, y0: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        arrays, tableau = self.method.arrays, self.method.tableau
        assert tableau is not None
        first = func(t0, y0)
        if arrays is not None:
            if getattr(func, "mul", 1.0) != 1.0 or getattr(getattr(func, "base_func", None), "mul", 1.0) != 1.0:
                raise ValueError("a corrector knows forward time only; use its base method to go back")
            length = float(dt)
            if length > arrays.dt * (1 + 1e-4) or (arrays.scaling == "none" and length < arrays.dt * (1 - 1e-4)):
                raise ValueError(
                    f"the corrector was trained with dt={arrays.dt:g}; torchdiffeq takes a step of {length:g}. Set "
                    f"options={{'step_size': {arrays.dt:g}}}"
                )
            dt = dt.new_tensor(arrays.dt) if abs(length - arrays.dt) <= 1e-4 * arrays.dt else dt  # t1 - t0 jitters
        after = FixedStep(func, tableau, self.method.corrected)(t0, y0, dt)  # type: ignore[arg-type]
        return after - y0, first


def register() -> None:
    """Make ``torchdiffeq.odeint(..., method="attsolver", options={"solver": ...})`` work.

    torchdiffeq has no public hook for methods: this adds to a private table, and says so when that is not as expected.
    ``attsolver.odeint`` needs no registration.

    Raises:
        RuntimeError: When this torchdiffeq keeps its methods differently.

    Example:
        >>> register()
        >>> y0 = torch.ones(1, 2)
        >>> t = torch.tensor([0.0, 0.1])
        >>> torchdiffeq.odeint(lambda t, y: -y, y0, t, method="attsolver", options={"solver": "rk4"})
        tensor([[[1.0000, 1.0000]],
        <BLANKLINE>
                [[0.9048, 0.9048]]])
    """
    if not isinstance(SOLVERS, dict) or not all(isinstance(solver, type) for solver in SOLVERS.values()):
        raise RuntimeError(f"torchdiffeq {torchdiffeq.__version__} keeps its methods elsewhere; use attsolver.odeint")
    SOLVERS["attsolver"] = AttSolverMethod
