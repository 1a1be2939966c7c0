"""The Triton engine: one launch integrates every trajectory over all steps. Chosen by name; its speed is unmeasured."""

import hashlib
import importlib.util
import linecache
import os
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch

from ._codegen import Program
from ._codegen_triton import STEP_LIMIT, operations, triton_text
from ._grid import Grid
from ._method import Method
from ._rhs import ComponentwiseRHS

BLOCK = 64  # trajectories of a program: one wave of an AMD GPU, two warps of an NVIDIA GPU
_kernels: dict[str, Any] = {}


@cache
def installed() -> bool:
    """Whether Triton is there."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether kernels run under Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def obstacle(method: Method, rhs: ComponentwiseRHS | None, y0: torch.Tensor) -> str | None:
    """Why the engine cannot run this, or None."""
    if method.kind != "runge_kutta" or method.tableau is None:
        return f"runs Runge-Kutta methods with fixed steps; got {method.kind.replace('_', ' ')} ({method.name})"
    if rhs is None:
        return "compiles component-wise right-hand sides only; write f(t, x, p, m) under @attsolver.rhs"
    if not installed():
        return "needs Triton, which torch brings where it can run"
    if y0.device.type != "cuda" and not (interpreted() and y0.device.type == "cpu"):
        return f"runs on a GPU, or with TRITON_INTERPRET=1 on the CPU; y0 is on {y0.device}"
    return None


def _program(rhs: ComponentwiseRHS, flat: torch.Tensor | None, method: Method, y0: torch.Tensor) -> Program:
    dim = y0.shape[-1]
    return Program(
        graph=rhs.graph(dim),
        dim=dim,
        n_params=len(rhs.flat_defaults),
        own_params=flat is not None and flat.ndim == 2,
        dtype="float32" if y0.dtype == torch.float32 else "float64",
        tableau=method.tableau,
    )


def kernel_for(text: str) -> Any:
    """The kernel that a text defines, kept by the hash of the text; ``inspect`` finds the source in ``linecache``."""
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    if key not in _kernels:
        name = f"<attsolver {key}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        namespace: dict[str, Any] = {"__name__": f"attsolver_{key}"}
        exec(compile(text, name, "exec"), namespace)
        _kernels[key] = namespace["kernel"]
    return _kernels[key]


def run_fixed(
    rhs: ComponentwiseRHS,
    flat: torch.Tensor | None,
    method: Method,
    y0: torch.Tensor,
    grid: Grid,
    *,
    max_norm: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """All steps of a grid for states (n, d).

    Returns:
        Kept states (T, n, d), a view of memory (T, d, n), and the status (n,).

    Raises:
        ValueError: For a step of too many operations.
    """
    n, d = y0.shape
    key = ("triton", method.name, d, y0.dtype, None if flat is None else flat.ndim, max_norm is not None)
    kernel: Any = rhs.plans.get(key)
    if kernel is None:
        program, fixed = _program(rhs, flat, method, y0), rhs.flat_defaults if flat is None else None
        size = operations(program)
        if size > STEP_LIMIT:
            raise ValueError(
                f"the triton backend unrolls a step, at most {STEP_LIMIT} operations; {method.name} of {rhs.name} has "
                f"{size}: take backend='compile' or 'eager'"
            )
        kernel = rhs.plans[key] = kernel_for(triton_text(program, fixed, bounded=max_norm is not None))
    out = torch.empty((grid.times.size, d, n), dtype=y0.dtype, device=y0.device)
    status = torch.empty(n, dtype=torch.int64, device=y0.device)
    columns = y0.t().contiguous()
    params = columns if flat is None else flat.detach().t().contiguous() if flat.ndim == 2 else flat.detach()
    bound = columns if max_norm is None else y0.new_full((1,), max_norm)
    with nullcontext() if y0.device.type == "cpu" else torch.cuda.device(y0.device):
        kernel[(-(-n // BLOCK),)](
            columns,
            params,
            *grid.on(y0.device),
            bound,
            out,
            status,
            n,
            len(grid.runs),
            INITIAL=grid.initial,
            BLOCK=BLOCK,
            num_warps=1 if torch.version.hip else 2,
            enable_fp_fusion=True,
        )
    return out.transpose(1, 2), status
