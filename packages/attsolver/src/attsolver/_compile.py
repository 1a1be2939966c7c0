"""The compiled engine: a block of steps under torch.compile, for tensor right-hand sides and for GPUs."""

from collections.abc import Callable
from typing import Any

import torch

from ._eager import FixedStep
from ._method import Method

BLOCK = 4  # steps in one compiled call; more of them cost minutes of compilation
COMPILER = "inductor"


class CompiledSteps:
    """Runs ``count`` equal steps as compiled blocks, with the batch padded to a power of two so that few shapes occur.

    Args:
        stepper: An eager step of a Runge-Kutta method, corrected or not.
    """

    def __init__(self, stepper: FixedStep) -> None:
        if stepper.arrays is not None and stepper.fallback:
            raise ValueError("backend='compile' has no fallback outside the training box; use eager or native")
        self.stepper = stepper
        _ = stepper.tableau.floats  # cached now: before Python 3.12 the cache takes a lock, which cannot be compiled
        self._blocks: dict[int, Callable[..., torch.Tensor]] = {}

    def run(self, u: torch.Tensor, start: float, h: float, first: int, count: int) -> torch.Tensor:
        """The states after steps ``first ... first + count - 1`` of a run."""
        n = u.shape[0] if u.ndim == 2 else 0
        size = 1 << (n - 1).bit_length() if n else 0
        padded = torch.cat([u, u[-1:].expand(size - n, -1)]) if size > n else u
        length = torch.tensor(h, dtype=u.dtype, device=u.device)
        while count:
            now = min(BLOCK, count)
            times = torch.tensor([start + (first + i) * h for i in range(now)], dtype=u.dtype, device=u.device)
            padded = self._block(now)(padded, times, length)
            first, count = first + now, count - now
        return padded[:n] if size > n else padded

    def _block(self, count: int) -> Callable[..., torch.Tensor]:
        if count not in self._blocks:
            step: Any = self.stepper.plain

            def block(u: torch.Tensor, times: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
                for i in range(count):
                    u = step(times[i], u, h)
                return u

            self._blocks[count] = torch.compile(block, dynamic=False, fullgraph=True, backend=COMPILER)
        return self._blocks[count]


_MOST = 16
_kept: dict[tuple[int, str, int], tuple[object, object, CompiledSteps]] = {}


def compiled_steps(func: object, method: Method, stepper: FixedStep, own_params: bool) -> CompiledSteps:
    """Compiled blocks for a right-hand side and a method, kept so that a second solve does not compile again.

    Args:
        func: What the user gave to ``solve``.
        method: The method.
        stepper: Its eager step.
        own_params: Whether parameters were given, which the step holds; such blocks are not kept.
    """
    key = (id(func), method.name, id(method.corrected))
    if own_params:
        return CompiledSteps(stepper)
    if key not in _kept:
        while len(_kept) >= _MOST:
            _kept.pop(next(iter(_kept)))
        _kept[key] = (func, method.corrected, CompiledSteps(stepper))  # held, so that an id cannot be used again
    return _kept[key][2]
