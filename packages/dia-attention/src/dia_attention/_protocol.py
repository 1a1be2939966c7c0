"""A protocol file as trainings: what is varied, what is chosen on validation images, and the pool that runs it."""

import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch

from ._data import digits
from ._train import TrainConfig, TrainResult, build, fit

NETWORKS: dict[str, str | None] = {"plain": None, "DIA": "dia"}
_SELECTION_OFFSET = 1000


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One row of the design.

    Attributes:
        claim: What is claimed of DIA against the plain net here.
        changes: The `TrainConfig` fields in which the condition differs from the protocol's `training`.
        learning_rates: For each network the candidates; with one candidate nothing is chosen.
    """

    claim: str
    changes: dict[str, Any]
    learning_rates: dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a demo does, fixed in a file before its run.

    Attributes:
        seeds: Number of reported seeds, at least 2.
        selection_seeds: Number of further seeds, disjoint from the reported ones, that choose the learning rates.
        training: `TrainConfig` fields that all trainings share.
        conditions: The rows, by name.
    """

    seeds: int
    selection_seeds: int
    training: dict[str, Any]
    conditions: dict[str, Condition]

    @classmethod
    def read(cls, path: Path) -> "Protocol":
        """The protocol of a JSON file.

        Raises:
            ValueError: It is not a JSON object of exactly these fields.
            FileNotFoundError: There is no such file.
        """
        try:
            fields = json.loads(path.read_text())
            rows = {name: Condition(**row) for name, row in fields["conditions"].items()}
            protocol = cls(**fields | {"conditions": rows})
            for row in rows:
                for network in NETWORKS:
                    protocol.config(row, network, min(rows[row].learning_rates[network]), seed=0)
            if protocol.seeds < 2:
                raise ValueError("an interval needs at least 2 seeds")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a protocol ({error!r}): compare it with those in the package") from error
        return protocol

    def config(self, condition: str, network: str, learning_rate: float, *, seed: int) -> TrainConfig:
        """The training of one cell of the design."""
        fields = self.training | self.conditions[condition].changes
        fields |= {"attention": NETWORKS[network], "learning_rate": learning_rate, "seed": seed}
        return TrainConfig(**fields | {"milestones": tuple(fields.get("milestones", TrainConfig.milestones))})

    def selection(self, first: int) -> list["Job"]:
        """The trainings that choose learning rates, where there is a choice."""
        seeds = range(first + _SELECTION_OFFSET, first + _SELECTION_OFFSET + self.selection_seeds)
        return [
            Job(condition, network, self.config(condition, network, rate, seed=seed))
            for condition, row in self.conditions.items()
            for network in NETWORKS
            for rate in row.learning_rates[network]
            for seed in seeds
            if len(row.learning_rates[network]) > 1
        ]

    def choose(self, jobs: list["Job"], results: list[TrainResult]) -> dict[tuple[str, str], float]:
        """The learning rate of each cell: best mean validation accuracy, the smaller rate in a tie."""
        chosen = {}
        for condition, row in self.conditions.items():
            for network in NETWORKS:
                scores = dict.fromkeys(sorted(row.learning_rates[network]), 0.0)
                for job, result in zip(jobs, results, strict=True):
                    if (job.condition, job.network) == (condition, network):
                        scores[job.config.learning_rate] += result.validation_accuracy
                chosen[condition, network] = max(scores, key=scores.__getitem__)
        return chosen

    def reported(self, first: int, rates: dict[tuple[str, str], float]) -> list["Job"]:
        """The trainings that are reported, at the chosen rates."""
        return [
            Job(condition, network, self.config(condition, network, rates[condition, network], seed=seed))
            for seed in range(first, first + self.seeds)
            for condition in self.conditions
            for network in NETWORKS
        ]


@dataclass(frozen=True)
class Job:
    """One training of a protocol."""

    condition: str
    network: str
    config: TrainConfig

    @property
    def name(self) -> str:
        """Folder of the training below the demo's output."""
        return f"{self.condition}_{self.network}_lr{self.config.learning_rate:g}_seed{self.config.seed}"


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each; on an error or an interrupt what has not begun is dropped."""
    pool = ProcessPoolExecutor(workers, _processes(), initializer=_prepare_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _processes() -> BaseContext:
    """Processes that inherit no CUDA state; where the system can, torch is imported once for all of them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])  # the second: what a first optimizer imports
    forkserver.ensure_running()  # begins to import now, while the caller goes on
    return context


def run_jobs(
    jobs: list[Job], directory: Path, device: torch.device, *, pool: ProcessPoolExecutor, label: str
) -> list[TrainResult]:
    """Train every job below `directory` and give the results in order.

    A finished training is only read again, a broken one goes on from its checkpoint.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    futures = [pool.submit(_run_job, job.config, directory / job.name, str(device)) for job in jobs]
    for future in tqdm(as_completed(futures), total=len(jobs), delay=2, disable=None, unit="training", desc=label):
        future.result()
    return [future.result() for future in futures]


def _run_job(config: TrainConfig, directory: Path, device: str) -> TrainResult:
    data = digits(seed=config.seed, per_class=config.per_class)
    return fit(build(config), data, config, directory, device=torch.device(device))


def _prepare_worker() -> None:
    """One thread, and no life after the parent: a killed demo leaves no process behind."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
