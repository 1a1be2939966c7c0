"""Which steps a solve takes and which of them it keeps, decided before the first one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

Save = Literal["all", "last"] | int


@dataclass(frozen=True)
class Run:
    """``count`` equal steps: step c starts at ``start + c h``; every ``every``-th is kept (0: none)."""

    start: float
    h: float
    count: int
    every: int


@dataclass(frozen=True)
class Grid:
    """Fixed steps in runs, and the times that are kept.

    Args:
        runs: Equal steps one after another; times within a run are multiples, never accumulated.
        times: Kept times, float64.
        initial: Whether the first kept time is the initial one.
        full: The step h of the full steps.
        shortened: Whether any step is shorter than the others.
    """

    runs: tuple[Run, ...]
    times: NDArray[np.float64]
    initial: bool
    full: float
    shortened: bool

    @cached_property
    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Start, step, count and every of the runs."""
        starts, steps = (np.array([getattr(run, name) for run in self.runs]) for name in ("start", "h"))
        counts, everys = (np.array([getattr(run, name) for run in self.runs], np.int64) for name in ("count", "every"))
        return starts, steps, counts, everys

    @cached_property
    def _on(self) -> dict[torch.device, tuple[torch.Tensor, ...]]:
        return {}

    def on(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """``arrays`` on a device, copied there once."""
        if device not in self._on:
            self._on[device] = tuple(torch.from_numpy(one).to(device) for one in self.arrays)
        return self._on[device]

    @cached_property
    def steps(self) -> int:
        """All steps."""
        return sum(run.count for run in self.runs)


def output_times(t: Sequence[float] | torch.Tensor) -> tuple[NDArray[np.float64], bool]:
    """The times as float64 and whether they are a span.

    Raises:
        ValueError: Unless t is (t0, t1), or a 1-D tensor of at least two finite, strictly monotonic times.
    """
    span = not isinstance(t, torch.Tensor)
    times = np.asarray(t.detach().cpu() if isinstance(t, torch.Tensor) else t, dtype=np.float64)
    if times.ndim != 1 or times.size < 2 or (span and times.size != 2):
        raise ValueError(f"t is (t0, t1) or a 1-D tensor of at least two times; got shape {times.shape}")
    finite = np.isfinite(times)
    if not finite.all():
        raise ValueError(f"t[{int(np.argmin(finite))}] is {times[np.argmin(finite)]}; times must be finite")
    steps = np.diff(times)
    if not ((steps > 0).all() or (steps < 0).all()):
        i = int(np.argmin(steps * np.sign(steps[0])))
        raise ValueError(f"times must rise or fall strictly; t[{i}] = {times[i]} is followed by {times[i + 1]}")
    return times, span


def make_grid(t: Sequence[float] | torch.Tensor, dt: float | None, save: Save) -> Grid:
    """The grid of a fixed-step solve: full steps of dt, the last before each output time shortened where it must be.

    Args:
        t: (t0, t1), or a 1-D tensor of output times.
        dt: Step, positive; None takes one step from each output time to the next.
        save: ``"all"``, ``"last"`` or k.

    Raises:
        ValueError: For times or a step that make no sense.
    """
    if isinstance(t, torch.Tensor):
        plain = t.detach().cpu().contiguous()
        return _cached(plain.numpy().tobytes(), plain.dtype, plain.ndim, dt, save, isinstance(save, bool))
    if len(t) == 2 and all(isinstance(one, int | float) for one in t):
        return _cached((float(t[0]), float(t[1])), None, 1, dt, save, isinstance(save, bool))
    return _make(t, dt, save)


@lru_cache(maxsize=256)
def _cached(
    t: bytes | tuple[float, float], dtype: torch.dtype | None, ndim: int, dt: float | None, save: Save, flag: bool
) -> Grid:
    """``_make`` for times that can be compared; ``flag`` tells True from 1."""
    if isinstance(t, tuple):
        return _make(t, dt, save)
    if not t or ndim != 1 or dtype is None or not dtype.is_floating_point:
        raise ValueError("t is (t0, t1) or a 1-D tensor of at least two floating-point times")
    return _make(torch.frombuffer(bytearray(t), dtype=dtype), dt, save)


def _make(t: Sequence[float] | torch.Tensor, dt: float | None, save: Save) -> Grid:
    times, span = output_times(t)
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be positive and finite; got {dt} (the direction comes from t)")
    if save not in ("all", "last") and (isinstance(save, bool) or not isinstance(save, int) or save < 1):
        raise ValueError(f'save is "all", "last" or a positive number of steps; got {save!r}')
    if span and dt is None:
        raise ValueError("a span t=(t0, t1) needs dt")
    resolution = np.finfo(np.float32 if isinstance(t, torch.Tensor) and t.dtype == torch.float32 else np.float64).eps
    slack = float(4 * resolution * np.abs(times).max())
    sign = 1.0 if times[-1] > times[0] else -1.0
    if span:
        assert dt is not None
        return _span(float(times[0]), float(times[1]), sign * dt, save, slack)
    gaps = np.diff(times)
    if dt is None:
        per, equal = 1, bool(np.ptp(gaps) <= 2 * slack)
        h = float(times[-1] - times[0]) / gaps.size
    else:
        per = max(1, round(float(abs(gaps[0])) / dt))
        h = sign * dt
        equal = bool((np.abs(gaps - per * h) <= slack + 1e-9 * dt).all())
    if equal:
        every = per * save if isinstance(save, int) else per if save == "all" else per * int(gaps.size)
        kept = times[-1:] if save == "last" else times[:: save if isinstance(save, int) else 1]
        return Grid((Run(float(times[0]), h, per * gaps.size, every),), kept, save != "last", h, False)
    runs, shortened = [], False
    for i, gap in enumerate(gaps):
        last = i == gaps.size - 1
        keep = last if save == "last" else (i + 1) % (save if isinstance(save, int) else 1) == 0
        step = float(gap) if dt is None else sign * dt
        parts = _split(float(times[i]), float(times[i + 1]), step, slack)
        runs += [
            Run(start, length, count, count if keep and j == len(parts) - 1 else 0)
            for j, (start, length, count) in enumerate(parts)
        ]
        shortened = shortened or len(parts) > 1 or (dt is not None and abs(parts[0][1]) < dt * (1 - 1e-9) - slack)
    kept = times[-1:] if save == "last" else times[:: save if isinstance(save, int) else 1]
    return Grid(tuple(runs), kept, save != "last", sign * dt if dt else float("nan"), shortened)


def _span(start: float, end: float, h: float, save: Save, slack: float) -> Grid:
    parts = _split(start, end, h, slack)
    steps = sum(count for _, _, count in parts)
    every = save if isinstance(save, int) else 1 if save == "all" else steps
    runs, done = [], 0
    for first, length, count in parts:
        if done == 0:
            runs.append(Run(first, length, count, every if every <= count else 0))
        else:
            runs.append(Run(first, length, count, 1 if steps % every == 0 else 0))
        done += count
    index = np.arange(0 if save != "last" else steps, steps + 1, every)
    times = np.asarray(start + index * h, dtype=np.float64)
    if index[-1] == steps:
        times[-1] = end
    return Grid(tuple(runs), times, save != "last", h, len(parts) > 1 or abs(parts[0][1]) < abs(h))


def _split(start: float, end: float, h: float, slack: float) -> list[tuple[float, float, int]]:
    """(start, step, count) of the full steps and of the shortened one."""
    length = end - start
    count = int(length / h + 1e-9 + slack / abs(h))
    rest = length - count * h
    parts = [(start, h, count)] if count else []
    if not parts or abs(rest) > slack + 1e-9 * abs(h):
        parts.append((start + count * h, rest, 1))
    return parts
