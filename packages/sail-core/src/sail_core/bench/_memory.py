"""Peak memory of a call: of tensors, exactly, or of the whole process, in pages."""

import ctypes
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


def peak_bytes(call: Call, device: Literal["cpu", "cuda"] = "cpu") -> int:
    """Most bytes of tensors that a call holds beyond what was held before it.

    On a CPU the number is exact: torch's profiler records every allocation and release, and the largest running sum is
    the peak. On CUDA it is that of torch's allocator. A warm call is meant: what a first call keeps is counted too.

    Args:
        call: What to run, once; its result is dropped inside the measurement.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        Bytes, 0 for a call that allocates nothing.

    Example:
        >>> peak_bytes(lambda: torch.empty(1024, dtype=torch.uint8))
        1024
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    found = record.profiler
    assert found is not None
    events = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def peak_resident(call: Call) -> int | None:
    """Most bytes by which a process grows while it runs a call, whatever allocates them.

    The call runs in forked children, so that its pages are counted from the state of this process and are gone after
    it; the most of three is taken, for a kernel that is short of memory takes pages away meanwhile. Files that it maps
    count as far as they are resident. Not for a process that has used CUDA.

    Args:
        call: What to run, three times.

    Returns:
        Bytes, to within some hundred kilobytes, as the kernel counts pages in batches; None elsewhere than on Linux.

    Raises:
        RuntimeError: If the call fails in the child, whose traceback is on stderr.

    Example:
        >>> found = peak_resident(lambda: bytearray(b"x") * 2**25)
        >>> found is None or 2**24 < found < 2**26
        True
    """
    if not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc: otherwise the call fills what was freed before, and that is resident already
        trim(0)
    return max(_child(call) for _ in range(3))


def _child(call: Call) -> int:
    fork = multiprocessing.get_context("fork")
    receive, send = fork.Pipe(duplex=False)
    child = fork.Process(target=_grow, args=(call, send))
    child.start()
    send.close()
    try:
        grown: int = receive.recv()
    except EOFError:
        raise RuntimeError("the call failed in the child process; its traceback is on stderr") from None
    finally:
        child.join()
    return grown


def _grow(call: Call, send: Connection) -> None:
    import resource  # not on Windows

    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    call()
    send.send(max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before))
