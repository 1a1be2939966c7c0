"""The native engine: programs compiled by numba once, kept on disk, and called with as little Python as can be."""

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sail_core.extras import needs
from sail_core.runs import write_atomic

from ._codegen import Program
from ._codegen_net import flat_weights
from ._corrector import Corrector
from ._grid import Grid
from ._method import Method
from ._program import program_text
from ._rhs import ComponentwiseRHS
from ._symplectic import check_separable

Kernel = Callable[..., None]
_kernels: dict[str, Kernel] = {}
_SHARE = 2048  # trajectories that are worth a thread; a multiple of every block
_NAMES = {torch.float32: "float32", torch.float64: "float64"}
_NO_WEIGHTS = {dtype: np.zeros(1, dtype) for dtype in ("float32", "float64")}


@cache
def installed() -> bool:
    """Whether numba is there."""
    return importlib.util.find_spec("numba") is not None


def cache_directory() -> Path:
    """Where compiled programs are kept: the environment variable ATTSOLVER_CACHE, or the user's cache directory."""
    chosen = os.environ.get("ATTSOLVER_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attsolver"


def kernel_for(program: Program) -> Kernel:
    """The compiled function of a program; from memory, from disk, or compiled now."""
    text = program_text(program)
    with needs("attsolver", "native"):
        import numba
    mathematics = (Path(__file__).parent / "integrations" / "_vecmath.py").read_bytes()
    key = hashlib.sha256(text.encode() + mathematics + numba.__version__.encode()).hexdigest()[:24]
    if key not in _kernels:
        _kernels[key] = _load(f"_attsolver_{key}", text)
    return _kernels[key]


def _load(name: str, text: str) -> Kernel:
    path = cache_directory() / f"{name}.py"
    try:
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(path, text)
    except OSError:  # a cache that cannot be written costs a compilation in every process, nothing else
        path = Path(tempfile.mkdtemp(prefix="attsolver-")) / f"{name}.py"
        write_atomic(path, text)
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    kernel: Kernel = module.kernel
    return kernel


def plan(rhs: ComponentwiseRHS, method: Method, dim: int, dtype: str, own_params: bool, fallback: bool) -> Kernel:
    """The kernel for a right-hand side and a method; remembered by the right-hand side."""
    arrays = method.arrays
    shape = arrays and (arrays.features, arrays.activation, arrays.hidden, arrays.conditioning, fallback)
    key = (method.tableau.name if method.tableau else method.name, method.kind, dim, dtype, own_params, shape)
    kernel = rhs.plans.get(key)
    if kernel is None:
        positions = tuple(check_separable(rhs, dim)) if method.splitting else ()
        kernel = rhs.plans[key] = kernel_for(
            Program(
                graph=rhs.graph(dim),
                dim=dim,
                n_params=len(rhs.flat_defaults),
                own_params=own_params,
                dtype="float32" if dtype == "float32" else "float64",
                tableau=method.tableau,
                splitting=method.splitting,
                positions=positions,
                corrector=arrays,
                fallback=fallback and arrays is not None,
                adaptive=method.kind == "adaptive",
            )
        )
    return kernel


def run_fixed(
    rhs: ComponentwiseRHS,
    flat: torch.Tensor | None,
    method: Method,
    y0: torch.Tensor,
    grid: Grid,
    *,
    max_norm: float | None,
    fallback: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """All steps of a grid for states (n, d).

    Returns:
        Kept states (T, n, d), the status (n,) unless all is well, and a corrector's steps outside its box (n,).
    """
    n, d = y0.shape
    dtype = _NAMES[y0.dtype]
    kernel = plan(rhs, method, d, dtype, flat is not None and flat.ndim == 2, fallback)
    out = np.empty((grid.times.size, n, d), dtype)
    status, left = np.zeros(n, np.int64), np.zeros(n, np.int64)
    starts, steps, counts, everys = grid.arrays
    scales, net = starts, _NO_WEIGHTS[dtype]
    if method.arrays is not None:
        scales, net = _scales(method.arrays, steps), _weights(method.arrays, dtype)
    bound = np.inf if max_norm is None else max_norm
    arguments = (y0.numpy(), _params(rhs, flat), net, starts, steps, scales, counts, everys, out, status, left)
    _share(kernel, n, (*arguments, bound, grid.initial))
    return (
        torch.from_numpy(out),
        torch.from_numpy(status) if status.any() else None,
        None if method.arrays is None else torch.from_numpy(left),
    )


def run_adaptive(
    rhs: ComponentwiseRHS,
    flat: torch.Tensor | None,
    method: Method,
    y0: torch.Tensor,
    times: NDArray[np.float64],
    *,
    rtol: float,
    atol: float,
    max_steps: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As ``integrate_adaptive``, for states (n, d)."""
    n, d = y0.shape
    dtype = _NAMES[y0.dtype]
    kernel = plan(rhs, method, d, dtype, flat is not None and flat.ndim == 2, False)
    out = np.empty((times.size - 1, n, d), dtype)
    status, attempts = np.zeros(n, np.int64), np.zeros(n, np.int64)
    arguments = (y0.numpy(), _params(rhs, flat), times, rtol, atol, max_steps, out, status, attempts)
    _share(kernel, n, arguments)
    return torch.from_numpy(out), torch.from_numpy(status), torch.from_numpy(attempts)


def _share(kernel: Kernel, n: int, arguments: tuple[object, ...]) -> None:
    """Run the kernel on all trajectories, with as many threads as torch may use; the split does not change a bit."""
    threads = min(torch.get_num_threads(), n // _SHARE) if n >= 2 * _SHARE else 1
    if threads <= 1:
        kernel(0, n, *arguments)
        return
    part = -(-n // (threads * 128)) * 128
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda lo: kernel(lo, min(n, lo + part), *arguments), range(0, n, part)))


def _params(rhs: ComponentwiseRHS, flat: torch.Tensor | None) -> NDArray[np.float64]:
    if flat is None:
        return rhs.default_array
    return np.ascontiguousarray(flat.detach().double().numpy().reshape(-1, flat.shape[-1]))


def _scales(arrays: Corrector, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    return (steps / arrays.dt) ** (arrays.order + 1) if arrays.scaling == "power" else np.ones_like(steps)


def _weights(arrays: Corrector, dtype: str) -> NDArray[np.float32] | NDArray[np.float64]:
    return flat_weights(arrays).astype(dtype)
