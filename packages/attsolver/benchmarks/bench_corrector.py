"""A corrector against our own best classical method at equal accuracy: bench_corrector.py --out FILE [--quick].

For every system a corrector is trained; then the cheapest of rk4, dopri5 and dop853 (pefrl and leapfrog where the
system is separable) with fixed steps that is at least as accurate on the same unseen trajectories is found and timed
beside it. The column impl_version says which it was, its step and its mean square error. Batches of 1000 over 50 output
times stand in for longer runs: most of these systems are chaotic, so that accuracy has no meaning over many more.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from attsolver import AttSolver, fit, generate, solve, systems
from attsolver._advise import fixed_candidate
from attsolver._measure import classical_methods, make_task
from sail_core.bench import append_rows, compare
from torch import Tensor

CASES = (
    ("klink_pendulum", 4, 32),
    ("n_body", 8, 64),
    ("neural", 64, 32),
    ("elastic_pendulum", None, 16),
    ("henon_heiles", None, 16),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Append two rows for each system; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Corrected rk4 against the best classical method of equal accuracy.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="one cheap system, a short training, to see that it runs")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda":
        print("the fused engine runs on the CPU; nothing was measured")
        return 0
    torch.set_num_threads(1)
    correct = True
    for name, size, hidden in CASES[3:4] if arguments.quick else CASES:
        correct &= measure(name, size, hidden, arguments.out, quick=arguments.quick)
    return 0 if correct else 1


def measure(name: str, size: int | None, hidden: int, out: Path, *, quick: bool) -> bool:
    system = systems.get(name, size=size)
    batch = 10 if quick else 1000
    task = make_task(system, n=32, outputs=50, spacing=system.dt, seed=1000)
    solver = AttSolver("rk4", system.dt, hidden=hidden)
    fit(solver, generate(system, 100, 50, system.dt), iterations=50 if quick else 1500)
    y, _ = task.run(solver, system.dt)
    error, mse = task.error(y), task.mse(y)
    found = [fixed_candidate(task, method, error, batch) for method in classical_methods(system)]
    found = [one for one in found if one.microseconds is not None]
    best = min(found, key=lambda one: one.microseconds or 0.0)
    best_mse = task.mse(task.run(best.method, best.dt)[0])
    span = (0.0, float(task.t[-1]))

    def run(method: str | AttSolver, dt: float | None) -> Callable[[Tensor], Tensor]:
        def call(y0: Tensor) -> Tensor:
            with torch.no_grad():
                return solve(
                    system, y0, t=span, method=method, dt=dt, save="last", out_of_domain="ignore", check="mask"
                ).y

        return call

    rows = compare(
        f"corrector_{name}",
        {"corrected": run(solver, None), "best_classical": run(best.method, best.dt)},
        lambda seed: [task.exact[:, 0].repeat(-(-batch // 32), 1)[:batch].contiguous()],
        reference=lambda y0: task.exact[:, -1:].repeat(-(-batch // 32), 1, 1)[:batch],
        tolerance=50 * error,  # the accuracy was compared above, over all output times; this is a guard
        mode="solve",
        shape=[batch, system.dim],
        dtype="float64",
        layout="rows",
        versions={
            "corrected": f"rk4 + h{hidden}, dt {system.dt:g}, MSE {mse:.2e}",
            "best_classical": f"{best.method}, dt {best.dt:.5g}, MSE {best_mse:.2e}",
        },
        seconds=0.2 if quick else 2.0,
    )
    append_rows(out, rows)
    for row in rows:
        time = "wrong" if row["median_us"] is None else f"{row['median_us'] / batch:9.3f} us a trajectory"
        print(f"{name:18} {row['impl']:15} {time}  {row['impl_version']}  {row['peer_ratio'] or ''}", flush=True)
    return all(row["correct"] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
