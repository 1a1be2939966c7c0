"""Timing several calls in turn, so that a change of the machine's speed meets all of them alike."""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

Call = Callable[[], object]

_MINIMUM_ROUNDS = 7


def time_cpu(calls: Sequence[Call], *, seconds: float, rng: random.Random) -> list[list[float]]:
    """Microseconds of process time per call: one sample for each call and round, calls shuffled in every round.

    Args:
        calls: What to time; each has run at least once before.
        seconds: Time to spend on each call; at least seven rounds are run.
        rng: Source of the order.
    """
    loops = []
    for call in calls:
        begin = time.process_time()
        call()
        loops.append(max(1, int(0.005 / max(time.process_time() - begin, 1e-7))))

    def sample(i: int) -> float:
        begin = time.process_time()
        for _ in range(loops[i]):
            calls[i]()
        return (time.process_time() - begin) / loops[i]

    return _rounds(len(calls), sample, seconds, rng)


def time_cuda(calls: Sequence[Call], *, seconds: float, rng: random.Random) -> list[list[float]]:
    """Microseconds per call between two CUDA events, otherwise as ``time_cpu``; 25 ms of warm-up for each call."""
    loops = []
    for call in calls:
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < 0.025:
            call()
            torch.cuda.synchronize()
            count += 1
        loops.append(max(1, int(0.005 * count / (time.perf_counter() - begin))))

    def sample(i: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(loops[i]):
            calls[i]()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1e-3 / loops[i]

    return _rounds(len(calls), sample, seconds, rng)


def _rounds(n: int, sample: Callable[[int], float], seconds: float, rng: random.Random) -> list[list[float]]:
    samples: list[list[float]] = [[] for _ in range(n)]
    end = time.perf_counter() + seconds * n
    with _no_collection():
        while len(samples[0]) < _MINIMUM_ROUNDS or time.perf_counter() < end:
            for i in rng.sample(range(n), n):
                samples[i].append(sample(i) * 1e6)
    return samples


@contextmanager
def _no_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def host_time(call: Call) -> float:
    """Microseconds that the host needs to launch a call on an idle CUDA device, least of five."""
    found = []
    for _ in range(5):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        found.append((time.perf_counter() - begin) * 1e6)
    torch.cuda.synchronize()
    return min(found)


def graph_time(call: Call, *, seconds: float) -> float | None:
    """Microseconds of one replay of the call as a CUDA graph, None where it cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    try:
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            call()
    except RuntimeError:
        return None
    (samples,) = time_cuda([graph.replay], seconds=seconds, rng=random.Random(0))
    return sorted(samples)[len(samples) // 2]


def copy_ceiling() -> float:
    """Gigabytes per second, read and written, of a CUDA copy much larger than the L2 cache."""
    size = 8 * torch.cuda.get_device_properties("cuda").L2_cache_size
    source = torch.zeros(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    (samples,) = time_cuda([lambda: target.copy_(source)], seconds=0.1, rng=random.Random(0))
    return 2e-3 * size / sorted(samples)[len(samples) // 2]
