"""What the comparisons share: trajectories with a known answer, the error of a method on them, and its time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ._corrector import Corrected
from ._expm import check_linear
from ._generate import generate
from ._solve import solve
from ._symplectic import check_separable
from .systems import System


@dataclass(frozen=True, eq=False)
class Task:
    """Initial states of a system's law and their exact states at equally spaced times.

    Args:
        system: The system.
        spacing: Distance of the output times.
        t: Output times with the initial one, (T,).
        exact: States, float64, (n, T, d).
    """

    system: System
    spacing: float
    t: Tensor
    exact: Tensor

    @cached_property
    def scale(self) -> Tensor:
        """Standard deviation of every component over trajectories and times, (d,); 1 where a component rests."""
        deviation = self.exact.std((0, 1))
        return torch.where(deviation > 0, deviation, 1.0)

    def error(self, y: Tensor) -> float:
        """RMS over trajectories, later output times and components, in units of ``scale``; inf where not finite."""
        left = ((y.double() - self.exact) / self.scale)[:, 1:].square().mean().sqrt()
        return float(left) if bool(torch.isfinite(left)) else float("inf")

    def mse(self, y: Tensor) -> float:
        """Mean square error over trajectories, times and components, in the system's units; inf where not finite."""
        left = (y.double() - self.exact).square().mean()
        return float(left) if bool(torch.isfinite(left)) else float("inf")

    def run(self, method: str | Corrected, step: float | None, *, rtol: float | None = None) -> tuple[Tensor, int]:
        """States at the output times and the mean evaluations of f for a trajectory.

        Args:
            method: As in ``solve``.
            step: Its dt; None for adaptive steps and expm.
            rtol: Of adaptive steps; atol is a thousandth of it.
        """
        with torch.no_grad():
            solution = solve(
                self.system,
                self.exact[:, 0],
                t=self.t,
                method=method,
                dt=step,
                rtol=rtol,
                atol=None if rtol is None else rtol * 1e-3,
                out_of_domain="ignore",
                allow_mismatch=True,
                check="mask",
            )
        return solution.y, round(float(solution.nfev.double().mean()))

    def seconds(
        self, method: str | Corrected, step: float | None, *, batch: int, rtol: float | None = None, rounds: int = 5
    ) -> float:
        """Process time of a solve of ``batch`` trajectories that keeps the last state, the least of some rounds."""
        start = self.exact[:, 0].repeat(-(-batch // len(self.exact)), 1)[:batch].contiguous()
        span = (0.0, float(self.t[-1]))
        options = {} if rtol is None else {"rtol": rtol, "atol": rtol * 1e-3}
        dt = self.spacing if step is None and rtol is None else step

        def call() -> object:
            return solve(
                self.system,
                start,
                t=span,
                method=method,
                dt=dt,
                save="last",
                out_of_domain="ignore",
                allow_mismatch=True,
                check="mask",
                **options,  # type: ignore[arg-type]
            )

        with torch.no_grad():
            return least_time(call, rounds)


def make_task(system: System, *, n: int, outputs: int, spacing: float, seed: int) -> Task:
    """A task of n trajectories, solved by DOP853 to 1e-12."""
    data = generate(system, n, outputs, spacing, seed=seed)
    return Task(system, spacing, data.t, data.clean)


def least_time(call: Callable[[], object], rounds: int) -> float:
    """Least process time of one call over some rounds of at least 5 ms, after one call to warm up.

    A call of more than 0.3 s is timed once: rounds are there for what is short.
    """
    call()
    begin = time.process_time()
    call()
    once = time.process_time() - begin
    if once > 0.3:
        return once
    loops = max(1, int(0.005 / max(once, 1e-6)))
    found = []
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(loops):
            call()
        found.append((time.process_time() - begin) / loops)
    return min(found)


def classical_methods(system: System) -> list[str]:
    """Methods of fixed steps that make sense for a system: the symplectic ones where it is separable."""
    methods = ["rk4", "dopri5", "dop853"]
    try:
        check_separable(system.rhs, system.dim)
    except ValueError:
        return methods
    return [*methods, "leapfrog", "pefrl"]


def is_linear(system: System) -> bool:
    """Whether ``expm`` solves it exactly."""
    try:
        check_linear(system.rhs, system.dim)
    except ValueError:
        return False
    return True
