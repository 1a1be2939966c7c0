"""Time and memory of the native engine against size: bench_growth.py --out FILE [--device cpu] [--quick].

Operation ``growth_batch`` counts trajectories of the elastic pendulum (1,000 RK4 steps of 0.1, every 50th kept),
``growth_steps`` steps of 256 chains of three masses (every 32nd kept), ``growth_dimension`` components of 1,024 chains
(100 steps, every tenth kept). A row's shape is that count alone, `nbytes` is of the initial states, and `first_us` has
the compilation in it. `peak_bytes` is what a process grows by in a warm call, result included, beyond a call of one
trajectory that keeps one state, which touches the same code; below one MiB, where pages are counted too coarsely, it is
null. The pendulum is checked on 16 trajectories by the eager engine in float64; the chain is linear, and its last
states are those of a power of the stability polynomial of RK4.
"""

import argparse
import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attsolver import __version__, solve, systems
from attsolver.systems import System
from sail_core.bench import append_rows, compare, peak_resident
from torch import Tensor

COUNTED = {"growth_batch": "trajectories", "growth_steps": "steps", "growth_dimension": "components"}
SIZES = {
    "growth_batch": [2**k for k in range(9, 20, 2)],
    "growth_steps": [2**k for k in range(10, 21, 2)],
    "growth_dimension": [2**k for k in range(3, 10)],
}


def case(op: str, size: int) -> tuple[System, Tensor, dict[str, Any], Callable[[Tensor], Tensor]]:
    """The system, its initial states, the options of the solve, and the truth about its ``sample``."""
    if op == "growth_batch":
        system, steps, every, dt = systems.get("elastic_pendulum"), 1000, 50, 0.1
        y0 = system.sample(size, dtype=torch.float32)
        options = {"t": (0.0, steps * dt), "dt": dt, "save": every}
        return system, y0, options, lambda y0: last(solve(system, sample(y0).double(), backend="eager", **options).y)
    batch, steps, every = (256, size, 32) if op == "growth_steps" else (1024, 100, 10)
    dt = 0.01
    system = systems.get("spring_chain", size=3 if op == "growth_steps" else size // 2)
    options = {"t": (0.0, steps * dt), "dt": dt, "save": every}
    return system, system.sample(batch), options, partial(stability_power, system, dt, steps)


def sample(y0: Tensor) -> Tensor:
    """Sixteen of the trajectories."""
    return y0[:: len(y0) // 16][:16]


def last(y: Tensor) -> Tensor:
    """The last kept state."""
    return y[:, -1]


def stability_power(system: System, dt: float, steps: int, y0: Tensor) -> Tensor:
    """``R(dt A)^steps y0`` with ``R(z) = 1 + z + z^2 / 2 + z^3 / 6 + z^4 / 24`` and the matrix A of a linear system."""
    one = torch.eye(system.dim, dtype=torch.float64)
    z = dt * system.rhs(0.0, one).T
    step = one + z @ (one + z @ (one + z @ (one + z / 4) / 3) / 2)
    return sample(y0) @ torch.linalg.matrix_power(step, steps).T


def measure(op: str, size: int, seconds: float) -> list[dict[str, Any]]:
    """The row of one size."""
    system, y0, options, truth = case(op, size)

    def run(y0: Tensor) -> Tensor:
        return last(sample(solve(system, y0, backend="native", **options).y))

    rows = compare(
        op,
        {"attsolver": run},
        lambda seed: [y0],
        reference=truth,
        tolerance=1e-3 if y0.dtype == torch.float32 else 1e-6,
        mode="solve",
        shape=[size],
        dtype=str(y0.dtype).removeprefix("torch."),
        layout=COUNTED[op],
        versions={"attsolver": __version__},
        seconds=seconds,
    )
    for row in rows:
        row["nbytes"] = y0.nbytes
        row["peak_bytes"] = peak(system, y0, options)
    return rows


def peak(system: System, y0: Tensor, options: dict[str, Any]) -> int | None:
    """Bytes that the solve takes beyond one of a single trajectory that keeps one state."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:  # what the timed calls freed would be taken again without a trace
        trim(0)
    whole = peak_resident(lambda: solve(system, y0, backend="native", **options))
    small = peak_resident(lambda: solve(system, y0[:1], backend="native", **options | {"save": "last"}))
    if whole is None or small is None or whole - small < 2**20:
        return None
    return whole - small


def main(argv: Sequence[str] | None = None) -> int:
    """Append a row for each size; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="Time and memory of the native engine against size.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes, to see that it runs")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda":
        print("the native engine runs on the CPU; nothing was measured")
        return 0
    torch.set_num_threads(1)
    correct = True
    for op, sizes in SIZES.items():
        for size in sizes[: 2 if arguments.quick else None]:
            rows = measure(op, size, 0.02 if arguments.quick else 0.3)
            append_rows(arguments.out, rows)
            for row in rows:
                correct &= row["correct"]
                time = f"{row['median_us'] / 1e3:.2f} ms" if row["correct"] else f"wrong by {row['rel_err']}"
                memory = "" if row["peak_bytes"] is None else f", {row['peak_bytes'] / 2**20:.1f} MiB"
                noisy = ", noisy" * bool(row["noisy"])
                print(
                    f"{op} {size} {COUNTED[op]}: {time}{memory}, first {row['first_us'] / 1e6:.1f} s{noisy}", flush=True
                )
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
