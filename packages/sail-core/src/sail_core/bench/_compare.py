"""One comparison: check every implementation against a reference, then time those that passed side by side."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any, Literal

import torch

from sail_core.testing import relative_error

from . import _clock
from ._memory import peak_bytes
from ._rows import FIELDS, SCHEMA, Row, nbytes, provenance

_QUIET = 0.05


def compare(
    op: str,
    implementations: Mapping[str, Callable[..., Any]],
    inputs: Callable[[int], Sequence[Any]],
    *,
    reference: Callable[..., Any],
    tolerance: float,
    mode: str,
    shape: Sequence[int],
    dtype: str,
    layout: str,
    device: Literal["cpu", "cuda"] = "cpu",
    versions: Mapping[str, str | None] | None = None,
    model_bytes: int | None = None,
    seconds: float = 0.5,
    seed: int = 0,
) -> list[Row]:
    """Time several implementations of one operation in the same process, interleaved in shuffled order.

    An implementation whose result is further than ``tolerance`` from the reference is not timed. On the CPU one
    thread and process time are used, and the first implementation takes part twice: where its two medians differ by
    more than 5 %, all rows are marked noisy. On CUDA the time is taken by events, over inputs that rotate through more
    than twice the L2 cache; host time, CUDA-graph replay, peak memory and the copy ceiling are measured as well.

    Args:
        op: What is computed.
        implementations: Callables by name, the own one first; each takes the inputs and returns its result: a tensor,
            array or number, or a sequence of these in which None is skipped.
        inputs: Makes the arguments from a seed.
        reference: Takes the same arguments and returns the truth in the same structure.
        tolerance: Largest relative error, see ``sail_core.testing.relative_error``.
        mode: What is timed, such as ``"fwd"`` or ``"fwdbwd"``.
        shape: Shape of the main input.
        dtype: Its dtype, such as ``"float32"``.
        layout: Its layout, such as ``"nchw"``.
        device: ``"cpu"`` or ``"cuda"``.
        versions: Version of each implementation; missing ones are null.
        model_bytes: Bytes the operation must move, for the bandwidth columns.
        seconds: Time to spend on each implementation.
        seed: Seed of the inputs and of the order.

    Returns:
        One row for each implementation. ``peer_ratio`` holds the peers' medians divided by the row's own.

    Example:
        >>> rows = compare(
        ...     "sum", {"torch": torch.sum, "python": sum}, lambda seed: [torch.ones(100)], reference=torch.sum,
        ...     tolerance=1e-6, mode="fwd", shape=[100], dtype="float32", layout="dense", seconds=0.01,
        ... )
        >>> [row["impl"] for row in rows], rows[0]["peer_ratio"]["python"] > 1
        (['torch', 'python'], True)
    """
    if not implementations:
        raise ValueError("there is nothing to compare; give at least one implementation")
    with _one_thread(device):
        sets = _input_sets(inputs, device, seed)
        shared = dict.fromkeys(FIELDS) | provenance(device)
        shared |= {"schema": SCHEMA, "op": op, "mode": mode, "shape": list(shape), "dtype": dtype, "layout": layout}
        shared |= {"nbytes": nbytes(shape, dtype), "model_bytes": model_bytes, "order": seed}
        truth = reference(*sets[0])
        rows = {}
        for name, run in implementations.items():
            begin = time.perf_counter()
            result = run(*sets[0])
            if device == "cuda":
                torch.cuda.synchronize()
            first = (time.perf_counter() - begin) * 1e6
            error = _error(truth, result)
            rows[name] = {
                **shared,
                "impl": name,
                "impl_version": (versions or {}).get(name),
                "first_us": first,
                "correct": error <= tolerance,
                "rel_err": error if error < float("inf") else None,
            }
        calls = {name: _rotating(run, sets) for name, run in implementations.items() if rows[name]["correct"]}
        if calls:
            _time(calls, rows, device, model_bytes, seconds, random.Random(seed))
    return list(rows.values())


def _time(
    calls: Mapping[str, Callable[[], object]],
    rows: Mapping[str, Row],
    device: str,
    model_bytes: int | None,
    seconds: float,
    rng: random.Random,
) -> None:
    """Fill in everything that is measured by running the calls."""
    clock = _clock.time_cuda if device == "cuda" else _clock.time_cpu
    first, *_ = calls
    *samples, again = clock([*calls.values(), calls[first]], seconds=seconds, rng=rng)
    medians = {name: statistics.median(s) for name, s in zip(calls, samples, strict=True)}
    noisy = abs(statistics.median(again) / medians[first] - 1) > _QUIET
    ceiling = _clock.copy_ceiling() if device == "cuda" and model_bytes is not None else None
    for (name, call), sample in zip(calls.items(), samples, strict=True):
        row, median = rows[name], medians[name]
        fifths = statistics.quantiles(sample, n=5)
        row |= {"rep": len(sample), "median_us": median, "p20_us": fifths[0], "p80_us": fifths[-1], "noisy": noisy}
        row["peer_ratio"] = {peer: medians[peer] / median for peer in medians if peer != name}
        if model_bytes is not None:
            row["gbps"] = model_bytes / median * 1e-3
        if ceiling is not None:
            row |= {"ceiling_gbps": ceiling, "frac_ceiling": row["gbps"] / ceiling}
        if device == "cuda":
            row |= {"host_us": _clock.host_time(call), "peak_bytes": peak_bytes(call, "cuda")}
            row["graph_us"] = _clock.graph_time(call, seconds=seconds)


def _input_sets(inputs: Callable[[int], Sequence[Any]], device: str, seed: int) -> list[Sequence[Any]]:
    """Enough arguments to keep a CUDA device's cache cold; one set on the CPU."""
    sets = [inputs(seed)]
    if device == "cuda":
        size = sum(value.nbytes for value in sets[0] if isinstance(value, torch.Tensor))
        cache = torch.cuda.get_device_properties("cuda").L2_cache_size
        sets += [inputs(seed + i) for i in range(1, min(64, 2 + 2 * cache // max(size, 1)))]
    return sets


def _rotating(run: Callable[..., Any], sets: Sequence[Sequence[Any]]) -> Callable[[], object]:
    turn = cycle(sets)
    return lambda: run(*next(turn))


def _error(truth: Any, result: Any) -> float:
    """Largest relative error over all parts of a result; infinite where the structure differs."""
    if not isinstance(truth, (tuple, list)):
        truth, result = [truth], [result]
    if not isinstance(result, (tuple, list)) or len(truth) != len(result):
        return float("inf")
    try:
        return max(relative_error(t, r) for t, r in zip(truth, result, strict=True) if t is not None)
    except ValueError:
        return float("inf")


@contextmanager
def _one_thread(device: str) -> Iterator[None]:
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
