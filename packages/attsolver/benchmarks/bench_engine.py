"""The fused engines against their peers on the elastic pendulum: bench_engine.py --out FILE [--device D] [--quick].

Same step: 1000 RK4 steps of 0.1 in float32, the last state kept; a peer is timed when it agrees with float64.
Equal accuracy: 50 output times to t = 10, each solver with the largest step or tolerance of a ladder whose mean square
error over trajectories, output times and components is at most 1e-8; ``rel_err`` of these rows is that error. The first
call, with its compilation, is ``first_us``. On CUDA the same step alone: by the Triton kernel, by torch.compile where
it works, and by torchdiffeq.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import torch
import torchdiffeq
from attsolver import __version__, solve, systems
from attsolver._peers import peer
from sail_core.bench import append_rows, compare
from torch import Tensor

SYSTEM = systems.get("elastic_pendulum")
STEPS, DT, MSE = 1000, 0.1, 1e-8
OUTPUTS = torch.linspace(0.0, 10.0, 51, dtype=torch.float64)
LIBRARIES = {"torchdiffeq": "torchdiffeq", "jax": "jax", "diffrax": "diffrax", "scipy": "scipy"}
Run = Callable[[Tensor], Tensor]


def field(t: Tensor, y: Tensor) -> Tensor:
    """The right-hand side as a user of torchdiffeq writes it."""
    theta, r, theta_dot, r_dot = y.unbind(-1)
    angular = (-9.81 * torch.sin(theta) - 2 * r_dot * theta_dot) / r
    return torch.stack([theta_dot, r_dot, angular, r * theta_dot**2 + 9.81 * torch.cos(theta) - 40 * (r - 10)], -1)


def jax_field(y: Any) -> Any:
    """The same in jax, on one state (4,)."""
    import jax.numpy as jnp

    theta, r, theta_dot, r_dot = y
    angular = (-9.81 * jnp.sin(theta) - 2 * r_dot * theta_dot) / r
    return jnp.stack([theta_dot, r_dot, angular, r * theta_dot**2 + 9.81 * jnp.cos(theta) - 40 * (r - 10)])


def jax_scan() -> Callable[[Any], Any]:
    """RK4 (3/8 rule) by lax.scan over vmap."""
    import jax

    def step(y: Any, _: None) -> tuple[Any, None]:
        k1 = jax_field(y)
        k2 = jax_field(y + DT / 3 * k1)
        k3 = jax_field(y + DT * (k2 - k1 / 3))
        k4 = jax_field(y + DT * (k1 - k2 + k3))
        return y + DT / 8 * (k1 + 3 * (k2 + k3) + k4), None

    run: Callable[[Any], Any] = jax.jit(jax.vmap(lambda y: jax.lax.scan(step, y, None, length=STEPS)[0]))
    return run


def fused(backend: str) -> Run:
    """The state after all steps, by a backend of ours."""
    return lambda y: solve(SYSTEM, y, t=(0.0, STEPS * DT), dt=DT, save="last", backend=backend).y[:, 0]


def in_float64(backend: str, y0: Tensor) -> Tensor:
    """The truth about them."""
    return fused(backend)(y0.double())


def with_torchdiffeq(y0: Tensor) -> Tensor:
    """The same by torchdiffeq."""
    ends = torch.tensor([0.0, STEPS * DT], device=y0.device)
    return torchdiffeq.odeint(field, y0, ends, method="rk4", options={"step_size": DT})[-1]


def same_step(device: str) -> dict[str, Run]:
    """Implementations that return the state after all steps."""
    if device == "cuda":
        return {"attsolver": fused("triton"), "attsolver_compile": fused("compile"), "torchdiffeq": with_torchdiffeq}
    scan = jax_scan()
    return {
        "attsolver": fused("native"),
        "torchdiffeq": with_torchdiffeq,
        "jax_scan": lambda y: torch.from_dlpack(scan(y.numpy()).block_until_ready()),
    }


def with_diffrax(method: str, *, substeps: float = 1, rtol: float | None = None) -> Run:
    """One trajectory of diffrax under vmap and jit: equal steps, or steps adapted to a tolerance."""
    import diffrax
    import jax
    import jax.numpy as jnp

    term = diffrax.ODETerm(lambda t, y, args: jax_field(y))
    times = jnp.asarray(OUTPUTS.numpy(), jnp.float32)
    adapt = diffrax.ConstantStepSize() if rtol is None else diffrax.PIDController(rtol=rtol, atol=1e-3 * rtol)

    @jax.jit
    def run(y0: Any) -> Any:
        def one(y: Any) -> Any:
            return diffrax.diffeqsolve(
                term,
                getattr(diffrax, method)(),
                0.0,
                10.0,
                0.1 / substeps,
                y,
                saveat=diffrax.SaveAt(ts=times),
                stepsize_controller=adapt,
                max_steps=10_000,
                throw=False,
            ).ys

        return jax.vmap(one)(y0)

    return lambda y: torch.from_dlpack(run(y.numpy()).block_until_ready())


def ladders(batch: int) -> dict[str, list[Callable[[], Run]]]:
    """For each solver its settings from coarse to fine."""
    rtols = [10 ** (-k / 2) for k in range(6, 15)]

    def ours(dt: float) -> Run:
        return lambda y: solve(SYSTEM, y, t=OUTPUTS, dt=dt, method="dop853", backend="native").y

    def ours_rk4(substeps: int) -> Run:
        return lambda y: solve(SYSTEM, y, t=OUTPUTS, dt=0.1 / substeps, backend="native").y

    def theirs(substeps: int) -> Run:
        options = {"step_size": 0.1 / substeps}
        return lambda y: torchdiffeq.odeint(field, y, OUTPUTS.to(y), method="rk4", options=options).movedim(0, 1)

    def adaptive(name: str, rtol: float) -> Run:
        run = peer(name, SYSTEM, step=None, rtol=rtol)
        return lambda y: run(y, OUTPUTS)

    found: dict[str, list[Callable[[], Run]]] = {
        "attsolver": [partial(ours, dt) for dt in (0.2, 0.1, 0.05)],
        "attsolver_rk4": [partial(ours_rk4, n) for n in (4, 5, 6, 7, 8)],
        "torchdiffeq_rk4": [partial(theirs, n) for n in (4, 5, 6, 7, 8)],
        "torchdiffeq_dopri5": [partial(adaptive, "torchdiffeq:dopri5", r) for r in rtols],
        "diffrax_tsit5": [partial(with_diffrax, "Tsit5", rtol=r) for r in rtols],
        "diffrax_dopri8": [partial(with_diffrax, "Dopri8", rtol=r) for r in rtols],
        "diffrax_tsit5_constant": [partial(with_diffrax, "Tsit5", substeps=n) for n in (0.5, 1, 2, 3, 4, 5)],
        "diffrax_dopri8_constant": [partial(with_diffrax, "Dopri8", substeps=n) for n in (0.5, 1, 2, 3)],
    }
    if batch <= 100:
        found["scipy_dop853"] = [partial(adaptive, "scipy:DOP853", r) for r in rtols]
    return found


class Checked:
    """A solver whose first call gives 1 plus its mean square error; the timed ones after it only solve."""

    def __init__(self, run: Run, truth: Tensor) -> None:
        self.run, self.truth, self.first = run, truth, True

    def __call__(self, y0: Tensor) -> Tensor:
        """Solve."""
        found = self.run(y0)
        if not self.first:
            return found
        self.first = False
        return 1 + mean_square_error(found, self.truth)


def mean_square_error(found: Tensor, truth: Tensor) -> Tensor:
    """Over trajectories, output times after the first, and components."""
    return (found.double() - truth)[:, 1:].square().mean()


def coarsest(ladder: Sequence[Callable[[], Run]], y0: Tensor, truth: Tensor) -> Run:
    """The first setting that is accurate enough; the last one where none is."""
    for make in ladder:
        run = make()
        if float(mean_square_error(run(y0), truth)) <= MSE:
            return make()
    return ladder[-1]()


def start(batch: int, device: str, seed: int) -> list[Tensor]:
    """Initial states in float32."""
    generator = torch.Generator().manual_seed(seed)
    return [SYSTEM.sample(batch, generator=generator, dtype=torch.float32).to(device)]


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """What is compared, in which version."""
    libraries = {name: LIBRARIES.get(name.partition("_")[0]) for name in names}
    return {name: version(library) if library else __version__ for name, library in libraries.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Append one row for each solver, task and batch; 1 if attsolver is wrong."""
    parser = argparse.ArgumentParser(description="The fused engines of attsolver against their peers.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="one small batch for a moment, to see that it runs")
    arguments = parser.parse_args(argv)
    device, quick = arguments.device, arguments.quick
    batches = {"cpu": (1, 100, 10_000), "cuda": (10_000, 100_000, 1_000_000)}[device]
    correct = True
    for batch in (100,) if quick else batches:
        (y0,) = start(batch, device, 0)
        shared = {"shape": (batch, 4), "dtype": "float32", "layout": "dense", "mode": "fwd", "device": device}
        shared["seconds"] = 0.05 if quick else 2.0
        exact = partial(in_float64, "native" if device == "cpu" else "eager")
        runs = same_step(device)
        rows = compare(
            "elastic_same_step", runs, partial(start, batch, device),
            reference=exact, tolerance=0.05, versions=versions_of(runs), **shared,
        )  # fmt: skip
        if device == "cpu":
            truth = solve(SYSTEM, y0.double(), t=OUTPUTS, method="dop853", rtol=1e-12, atol=1e-12, backend="native").y
            chosen = {name: Checked(coarsest(ladder, y0, truth), truth) for name, ladder in ladders(batch).items()}
            rows += compare(
                "elastic_equal_accuracy", chosen, partial(start, batch, device),
                reference=lambda y: torch.ones(()).double(), tolerance=MSE, versions=versions_of(chosen), **shared,
            )  # fmt: skip
        append_rows(arguments.out, rows)
        for row in rows:
            correct &= bool(row["correct"]) or row["impl"] not in ("attsolver", "attsolver_rk4")
            median = row["median_us"]
            ours = next(r for r in rows if r["op"] == row["op"])["median_us"]
            ratio = f"{median:12.1f} us, {median / ours:9.1f}x attsolver" if median and ours else "not accurate enough"
            noisy = ", noisy" * bool(row["noisy"])
            print(f"{row['op']:22} B={batch:<6} {row['impl']:24} {ratio}, error {row['rel_err']}{noisy}", flush=True)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
