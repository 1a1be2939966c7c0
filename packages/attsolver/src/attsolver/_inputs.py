"""What ``solve`` refuses, with the way out in the message."""

import math
from collections.abc import Mapping

import torch

from ._corrector import Corrector
from ._grid import Grid
from ._method import Method
from ._rhs import ComponentwiseRHS, Value, params_hash


def check_state(y0: torch.Tensor) -> None:
    """Raise unless y0 is a finite float32 or float64 tensor (d,) or (n, d)."""
    if not isinstance(y0, torch.Tensor):
        raise TypeError(f"y0 is a torch tensor; got {type(y0).__name__}")
    if y0.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"states are float32 or float64; got {y0.dtype} (y0.float() makes it float32)")
    if y0.ndim not in (1, 2) or 0 in y0.shape:
        raise ValueError(f"y0 has shape {tuple(y0.shape)}; expected (d,) or (n, d), neither of them 0")
    values = y0.detach()
    total = values.numpy().sum() if values.device.type == "cpu" else values.sum()
    if math.isfinite(total):  # a sum may overflow; then look at every one
        return
    finite = torch.isfinite(y0)
    if not bool(finite.all()):
        where = tuple(int(i) for i in (~finite).nonzero()[0])
        raise ValueError(f"y0{list(where)} is {float(y0[where])}; initial states must be finite")


def check_tolerances(method: Method, rtol: float | None, atol: float | None) -> tuple[float, float]:
    """The tolerances with their defaults 1e-6 and 1e-9; raise where they have no meaning."""
    if method.kind != "adaptive":
        if rtol is not None or atol is not None:
            raise ValueError(
                f"rtol and atol belong to adaptive steps: method dopri5 or dop853 without dt; got {method.name}"
            )
        return 0.0, 0.0
    rtol, atol = 1e-6 if rtol is None else rtol, 1e-9 if atol is None else atol
    if not (0 <= rtol < 1 and 0 <= atol < float("inf") and rtol + atol > 0):
        raise ValueError(f"rtol is in [0, 1) and atol at least 0, not both 0; got rtol={rtol}, atol={atol}")
    return rtol, atol


def check_corrected(
    arrays: Corrector,
    grid: Grid,
    dim: int,
    rhs: ComponentwiseRHS | None,
    params: Mapping[str, Value] | None,
    allow_mismatch: bool,
) -> None:
    """Raise where a corrector is used on what it was not trained for."""
    if arrays.dim != dim:
        raise ValueError(f"the corrector has {arrays.dim} states, y0 has {dim}")
    if grid.runs[0].h < 0:
        raise ValueError("a corrector knows forward time only; use its base method to go back")
    if arrays.scaling == "none" and grid.shortened:
        raise ValueError(
            'with scaling="none" every step must be dt; choose output times at multiples of it, or train with '
            'scaling="power"'
        )
    if allow_mismatch:
        return
    if abs(grid.full - arrays.dt) > 1e-6 * arrays.dt:
        raise ValueError(
            f"the corrector was trained with dt={arrays.dt:g}; got steps of {grid.full:g}. Leave dt out, or pass "
            "allow_mismatch=True (the correction then follows the power law of its base)"
        )
    if rhs is None or not arrays.params_hash or arrays.conditioning:
        return
    if params or params_hash(rhs.params) != arrays.params_hash:
        raise ValueError(
            f"the corrector was trained on {arrays.system or 'a system'} with other parameters; train it again, train "
            "one with conditioning, or pass allow_mismatch=True"
        )
