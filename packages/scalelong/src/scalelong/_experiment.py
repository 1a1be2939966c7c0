"""A protocol file as trainings: its arms, its seeds, what is measured of each run, and what is claimed of them."""

import json
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from sail_core.report import Verdict, verdict

from ._data import load_images
from ._train import TrainConfig, Trained, fit

Metric = Literal["final loss", "oscillation", "p99 gradient", "steps to the fixed loss"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that share an architecture.

    Attributes:
        changes: `TrainConfig` fields that differ from the protocol's ``training``.
        learning_rates: All of them are run.
        arms: Names of the protocol's arms.
    """

    changes: dict[str, Any]
    learning_rates: list[float]
    arms: list[str]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A claim about two arms at one learning rate of one group, judged by the logarithm of their ratio, seed by seed.

    Attributes:
        claim: The claim, in a sentence.
        metric: Of `measure`.
        group: Where.
        learning_rate: At which.
        arm: The one that is claimed to be smaller.
        against: The other.
    """

    claim: str
    metric: Metric
    group: str
    learning_rate: float
    arm: str
    against: str


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What an experiment does, fixed in a file before its run.

    Attributes:
        seeds: Number of reported seeds, at least 2.
        fixed_loss: The probe loss that ``steps to the fixed loss`` waits for.
        stable_loss: A run is stable when it stayed finite and ends at or below this probe loss, and within a quarter
            of its own minimum.
        training: `TrainConfig` fields that all runs share.
        arms: `TrainConfig` fields of each arm, by name.
        groups: By name.
        comparisons: The claims.
        samples: Pictures to draw from each arm of the first group for the quality measure; 0 draws none.
        sampling_steps: Of DDIM.
    """

    seeds: int
    fixed_loss: float
    stable_loss: float
    training: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    groups: dict[str, Group]
    comparisons: list[Comparison] = field(default_factory=list)
    samples: int = 0
    sampling_steps: int = 25

    @classmethod
    def read(cls, path: Path) -> "Protocol":
        """Read the protocol of a JSON file.

        Raises:
            ValueError: It is not a JSON object of exactly these fields, or names an arm or group that is not there.
            FileNotFoundError: There is no such file.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            groups = {name: Group(**row) for name, row in fields["groups"].items()}
            comparisons = [Comparison(**row) for row in fields.get("comparisons", [])]
            protocol = cls(**fields | {"groups": groups, "comparisons": comparisons})
            jobs = {(job.group, job.arm, job.config.learning_rate) for job in protocol.jobs(0)}
            for one in comparisons:
                for arm in (one.arm, one.against):
                    if (one.group, arm, one.learning_rate) not in jobs:
                        raise ValueError(f"{one.claim!r} compares {arm!r} of {one.group!r}, which is not run")
            if protocol.seeds < 2:
                raise ValueError("an interval needs at least 2 seeds")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a protocol ({error!r}): compare it with those in the package") from error
        return protocol

    def jobs(self, first_seed: int) -> list["Job"]:
        """Return every run, seed by seed, so that the first seed is complete first."""
        return [
            Job(group=name, arm=arm, config=self._config(group, arm, rate, seed))
            for seed in range(first_seed, first_seed + self.seeds)
            for name, group in self.groups.items()
            for rate in group.learning_rates
            for arm in group.arms
        ]

    def _config(self, group: Group, arm: str, rate: float, seed: int) -> TrainConfig:
        fields = self.training | group.changes | self.arms[arm] | {"learning_rate": rate, "seed": seed}
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return TrainConfig(**fields | lists)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a protocol."""

    group: str
    arm: str
    config: TrainConfig

    @property
    def name(self) -> str:
        """The run's folder."""
        words = f"{self.group}_{self.arm}_lr{self.config.learning_rate:g}_seed{self.config.seed}"
        return words.replace(" ", "-").replace("/", "-")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a protocol looks at in one run.

    Attributes:
        metrics: By `Metric`; None where the run did not get that far.
        stable: See `Protocol.stable_loss`.
        nonfinite_step: Where the run broke, or None.
        probe: Its series ``(step, loss)``.
        gradient_norms: At every step.
    """

    metrics: dict[str, float | None]
    stable: bool
    nonfinite_step: int | None
    probe: list[tuple[int, float]]
    gradient_norms: list[float]


def measure(trained: Trained, protocol: Protocol) -> Measured:
    """Reduce a run to what the protocol compares.

    final loss: mean of the last 5 probe losses. oscillation: standard deviation of log probe loss around its
    least-squares line over the second half. p99 gradient: 99th percentile of the gradient norm without the first fifth.
    steps to the fixed loss: linear between probes.
    """
    losses = [loss for _, loss in trained.probe]
    metrics: dict[str, float | None] = dict.fromkeys(
        ("final loss", "oscillation", "p99 gradient", "steps to the fixed loss")
    )
    stable = False
    if trained.nonfinite_step is None and len(losses) >= 5:
        final = sum(losses[-5:]) / 5
        metrics["final loss"] = final
        metrics["oscillation"] = _oscillation(losses[len(losses) // 2 :])
        norms = torch.tensor(trained.gradient_norms[len(trained.gradient_norms) // 5 :], dtype=torch.float64)
        metrics["p99 gradient"] = float(norms.quantile(0.99))
        metrics["steps to the fixed loss"] = _first_below(trained.probe, protocol.fixed_loss)
        stable = final <= protocol.stable_loss and final <= 1.25 * min(losses)
    return Measured(
        metrics=metrics,
        stable=stable,
        nonfinite_step=trained.nonfinite_step,
        probe=trained.probe,
        gradient_norms=trained.gradient_norms,
    )


def _oscillation(losses: Sequence[float]) -> float:
    logs = torch.tensor(losses, dtype=torch.float64).log()
    at = torch.arange(len(logs), dtype=torch.float64)
    design = torch.stack([torch.ones_like(at), at], dim=1)
    line = design @ torch.linalg.lstsq(design, logs[:, None]).solution
    return float((logs - line[:, 0]).std(correction=2))


def _first_below(series: Sequence[tuple[int, float]], level: float) -> float | None:
    before: tuple[float, float] | None = None
    for step, loss in series:
        if loss <= level:
            if before is None:
                return float(step)
            share = (before[1] - level) / (before[1] - loss)
            return before[0] + share * (step - before[0])
        before = (step, loss)
    return None


def run_jobs(jobs: Sequence[Job], directory: Path, protocol: Protocol, *, device: str, workers: int) -> list[Measured]:
    """Train every job below ``directory`` and give what was measured, in order.

    A finished run is only read again, a broken one goes on from its checkpoint.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(_run_job, job, directory / job.name, protocol, device) for job in jobs]
        try:
            for future in tqdm(as_completed(futures), total=len(jobs), delay=2, disable=None, unit="run", desc="runs"):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _run_job(job: Job, directory: Path, protocol: Protocol, device: str) -> Measured:
    config = job.config
    images, held_out = (load_images(config.data, size=config.size, split=split) for split in ("train", "test"))
    return measure(fit(config, images, held_out, directory, device=device), protocol)


def judge(protocol: Protocol, jobs: Sequence[Job], results: Sequence[Measured]) -> list[Verdict]:
    """Judge every comparison by the paired interval of ``log(arm / against)`` over the seeds.

    A pair of which one run has no such number leaves the claim unmeasured.
    """
    found = {
        (job.group, job.arm, job.config.learning_rate, job.config.seed): result
        for job, result in zip(jobs, results, strict=True)
    }
    seeds = sorted({job.config.seed for job in jobs})
    verdicts = []
    for one in protocol.comparisons:
        pairs = [
            tuple(found[one.group, arm, one.learning_rate, seed].metrics[one.metric] for arm in (one.arm, one.against))
            for seed in seeds
        ]
        logs = [math.log(a / b) for a, b in pairs if a and b]
        if len(logs) < len(pairs):
            verdicts.append(Verdict(one.claim, "log ratio < 0", None, None, None))
        else:
            verdicts.append(verdict(one.claim, "log ratio < 0", logs, direction="less"))
    return verdicts


def tabulate(jobs: Sequence[Job], results: Sequence[Measured]) -> dict[str, Any]:
    """Return every value of every seed: group, arm, learning rate, metric."""
    table: dict[str, Any] = {}
    for job, result in zip(jobs, results, strict=True):
        cell = (
            table.setdefault(job.group, {}).setdefault(job.arm, {}).setdefault(f"lr {job.config.learning_rate:g}", {})
        )
        for name, value in result.metrics.items():
            cell.setdefault(name, []).append(value)
        cell.setdefault("stable", []).append(result.stable)
    return table


def largest_stable(table: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return for each group and arm the largest learning rate at which every seed was stable."""
    return {
        group: {
            arm: max(
                (float(rate.removeprefix("lr ")) for rate, cell in rates.items() if all(cell["stable"])), default=None
            )
            for arm, rates in arms.items()
        }
        for group, arms in table.items()
    }
