"""Other solvers of ordinary differential equations on the same tasks, for ``work_precision``."""

import importlib
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sail_core.extras import needs
from torch import Tensor

from .systems import System

Run = Callable[[Tensor, Tensor], Tensor]
FIXED = ("torchdiffeq:rk4",)
ADAPTIVE = ("torchdiffeq:dopri5", "scipy:DOP853", "diffrax:Tsit5", "diffrax:Dopri8")


def installed_peers() -> list[str]:
    """The peers whose library is installed."""
    return [name for name in (*FIXED, *ADAPTIVE) if importlib.util.find_spec(name.partition(":")[0])]


def check_peer(name: str) -> None:
    """Raise ValueError unless the name is that of a peer."""
    if name not in (*FIXED, *ADAPTIVE):
        raise ValueError(f"there is no peer {name!r}; expected one of {', '.join((*FIXED, *ADAPTIVE))}")


def peer(name: str, system: System, *, step: float | None, rtol: float | None) -> Run:
    """A function ``(y0 (n, d), t (T,)) -> (n, T, d)`` of another library, in the dtype of y0.

    Args:
        name: ``library:method``, one of ``FIXED`` or ``ADAPTIVE``.
        system: The system.
        step: dt of a fixed-step method.
        rtol: Relative tolerance of an adaptive one; atol is a thousandth of it.

    Raises:
        ValueError: For an unknown name.
        MissingExtra: When the library is not installed.
    """
    check_peer(name)
    library, _, method = name.partition(":")
    if library == "torchdiffeq":
        return _torchdiffeq(system, method, step, rtol)
    assert rtol is not None
    return _scipy(system, method, rtol) if library == "scipy" else _diffrax(system, method, rtol)


def _torchdiffeq(system: System, method: str, step: float | None, rtol: float | None) -> Run:
    with needs("attsolver", "torchdiffeq"):
        from torchdiffeq import odeint
    options = {"step_size": step} if rtol is None else {}
    tolerances = {} if rtol is None else {"rtol": rtol, "atol": rtol * 1e-3}

    def run(y0: Tensor, t: Tensor) -> Tensor:
        found: Tensor = odeint(system.rhs, y0, t.to(y0), method=method, options=options, **tolerances)
        return found.movedim(0, 1)

    return run


def _scipy(system: System, method: str, rtol: float) -> Run:
    with needs("attsolver", "scipy"):
        from scipy.integrate import solve_ivp
    function, names = system.rhs.function, SimpleNamespace(**system.rhs.params)
    mathematics = SimpleNamespace(**{n: getattr(np, n) for n in ("sin", "cos", "exp", "log", "tanh", "sqrt", "abs")})
    mathematics.pi, mathematics.minimum, mathematics.maximum = np.pi, np.minimum, np.maximum

    def run(y0: Tensor, t: Tensor) -> Tensor:
        times = t.double().numpy()
        rows = [
            solve_ivp(
                lambda at, y: function(at, tuple(y), names, mathematics),
                (times[0], times[-1]),
                one,
                method=method,
                t_eval=times,
                rtol=max(rtol, 3e-14),
                atol=rtol * 1e-3,
            ).y.T
            for one in y0.double().numpy()
        ]
        return torch.as_tensor(np.stack(rows))

    return run


def _diffrax(system: System, method: str, rtol: float) -> Run:
    with needs("attsolver", "jax"):
        import diffrax
        import jax
        import jax.numpy as jnp
    function, names = system.rhs.function, SimpleNamespace(**system.rhs.params)
    term = diffrax.ODETerm(lambda t, y, _: jnp.stack(function(t, tuple(y), names, jnp)))
    controller = diffrax.PIDController(rtol=rtol, atol=rtol * 1e-3)

    def solve(y0: Any, times: Any) -> Any:
        def one(y: Any) -> Any:
            return diffrax.diffeqsolve(
                term,
                getattr(diffrax, method)(),
                times[0],
                times[-1],
                None,
                y,
                saveat=diffrax.SaveAt(ts=times),
                stepsize_controller=controller,
                max_steps=100_000,
            ).ys

        return jax.vmap(one)(y0)

    compiled = jax.jit(solve)
    home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")  # jax 0.8 moved it
    double_precision: Any = home.enable_x64

    def run(y0: Tensor, t: Tensor) -> Tensor:
        wide = y0.dtype == torch.float64
        with double_precision(wide):
            found = compiled(y0.numpy(), t.numpy().astype(np.float64 if wide else np.float32))
            return torch.as_tensor(np.array(found))

    return run
