"""The iterations of a fit: Adam with a cosine schedule, checkpoints, and the weights that did best."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from sail_core.runs import Run, latest, load_state, save_state
from torch import Tensor

from ._attsolver import WEIGHTS, AttSolver
from ._generate import TrajectoryData
from ._targets import Pairs, Problem, error_scale, stride_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of ``fit`` that decide the result."""

    seed: int
    iterations: int
    batch: int
    lr: float
    ridge: float
    rollout: int
    held_out: float
    noise: float
    warm_start: bool


class Training:
    """The iterations of one fit, with everything that a checkpoint must hold."""

    def __init__(
        self,
        solver: AttSolver,
        pairs: Pairs,
        data: TrajectoryData,
        problem: Problem,
        plan: Plan,
        generator: torch.Generator,
    ) -> None:
        self.solver, self.pairs, self.plan, self.generator = solver, pairs, plan, generator
        self.done = self.best_iteration = 0
        self.curve: list[tuple[int, float, float]] = []
        self._best = (float("inf"), self._weights())
        self._train = (~pairs.held).nonzero()[:, 0]
        self._test = pairs.held.nonzero()[:, 0] if bool(pairs.held.any()) else self._train
        self._scale = error_scale(pairs)
        self.loss = self._one_step_loss() if plan.rollout == 1 else self._rollout_loss(data, problem)

    def _weights(self) -> dict[str, Tensor]:
        return {name: getattr(self.solver, name).detach().clone() for name in WEIGHTS}

    @torch.no_grad()
    def relative_error(self) -> float:
        """RMS of what the solver leaves of the held-out local errors, over their own."""
        p, rows = self.pairs, self._test
        q = self.solver.correction(0.0, p.u[rows], p.s[rows], None if p.params is None else p.params[rows])
        left = ((p.error[rows] - q) / self._scale).square().mean()
        return float((left / (p.error[rows] / self._scale).square().mean()).sqrt())

    def run(self, out: str | Path | None, save_every: int) -> None:
        """Do the iterations that are left and keep the best weights."""
        from tqdm import tqdm  # type: ignore[import-untyped]

        plan, solver = self.plan, self.solver
        optimizer = torch.optim.Adam([p for p in solver.parameters() if p.requires_grad], lr=plan.lr)
        folder = None if out is None else Path(out)
        if folder is not None:
            described = asdict(plan) | {"solver": repr(solver), "data": self._fingerprint()}
            Run(folder, config=described)
            self._resume(folder / "checkpoints", optimizer)
        every = max(1, plan.iterations // 20)
        left = range(self.done, plan.iterations)
        for i in tqdm(left, initial=self.done, total=plan.iterations, delay=2, disable=None):
            for group in optimizer.param_groups:
                group["lr"] = plan.lr * 0.5 * (1 + math.cos(math.pi * i / plan.iterations))
            optimizer.zero_grad(set_to_none=True)
            loss = self.loss()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            self.done = i + 1
            if i % every == 0 or self.done == plan.iterations:
                self.look(float(loss.detach()))
            if folder is not None and (self.done % save_every == 0 or self.done == plan.iterations):
                save_state(folder / "checkpoints", self._state(optimizer), step=self.done)
        with torch.no_grad():
            for name, value in self._best[1].items():
                getattr(solver, name).copy_(value)

    def look(self, loss: float) -> None:
        """Note where the training is, and keep the weights when they are the best so far."""
        found = self.relative_error()
        self.curve.append((self.done, loss, found))
        if found < self._best[0] or not self.pairs.held.any():
            self._best, self.best_iteration = (found, self._weights()), self.done

    def _fingerprint(self) -> str:
        return hashlib.sha256(self.pairs.error.numpy().tobytes()).hexdigest()[:16]

    def _state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return {
            "done": self.done,
            "best": [self._best[0], self._best[1], self.best_iteration],
            "curve": [list(row) for row in self.curve],
            "weights": self._weights(),
            "optimizer": optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def _resume(self, folder: Path, optimizer: torch.optim.Optimizer) -> None:
        checkpoint = latest(folder)
        if checkpoint is None:
            return
        state = load_state(checkpoint)
        self.done = state["done"]
        self._best = (state["best"][0], state["best"][1])
        self.best_iteration = state["best"][2]
        self.curve = [(int(a), float(b), float(c)) for a, b, c in state["curve"]]
        with torch.no_grad():
            for name, value in state["weights"].items():
                getattr(self.solver, name).copy_(value)
        optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])

    def _one_step_loss(self) -> Callable[[], Tensor]:
        p, solver, plan = self.pairs, self.solver, self.plan
        rows = self._train
        dtype = solver.w1.dtype
        z = solver.normalized(p.u, p.s, p.params)[rows].to(dtype)
        target = (p.error[rows] / self._scale).to(dtype)
        scale = (solver.out_scale / self._scale).to(dtype)
        zero = None
        if solver.preserve_equilibria:
            zero = torch.zeros(1, z.shape[1], dtype=dtype)

        def loss() -> Tensor:
            at = torch.randint(len(z), (min(plan.batch, len(z)),), generator=self.generator)
            wanted = target[at]
            if plan.noise:
                wanted = wanted + plan.noise * torch.randn(wanted.shape, generator=self.generator, dtype=dtype)
            q = solver.network(z[at])
            if zero is not None:
                q = q - solver.network(zero)
            return (scale * q - wanted).square().mean()

        return loss

    def _rollout_loss(self, data: TrajectoryData, problem: Problem) -> Callable[[], Tensor]:
        solver, plan = self.solver, self.plan
        stride = stride_of(solver, data)
        n, times, _ = data.y.shape
        windows = times - plan.rollout * stride
        if windows < 1:
            raise ValueError(f"a rollout of {plan.rollout} steps of {stride} times does not fit in {times} times")
        free = (~self.pairs.held).reshape(n, -1)
        last = free.sum(1) - (plan.rollout - 1) * stride
        trajectories = (last > 0).nonzero()[:, 0]
        params = problem.params(n, solver.conditioning)

        def loss() -> Tensor:
            which = trajectories[torch.randint(len(trajectories), (plan.batch,), generator=self.generator)]
            draw = torch.rand(plan.batch, generator=self.generator, dtype=torch.float64)
            start = (draw * last[which]).long()
            flat = None if problem.flat is None else problem.flat[which]
            own = None if params is None else params[which]
            u, total = data.y[which, start], torch.zeros((), dtype=torch.float64)
            for k in range(plan.rollout):
                t = data.t[start + k * stride]
                u = solver.advance(lambda at, x, flat=flat: problem.f(at, x, flat), t, u, own)
                wanted = data.y[which, start + (k + 1) * stride]
                if plan.noise:
                    drawn = torch.randn(wanted.shape, generator=self.generator, dtype=torch.float64)
                    wanted = wanted + plan.noise * self._scale * drawn
                total = total + ((u - wanted) / self._scale).square().mean()
            return total / plan.rollout

        return loss
