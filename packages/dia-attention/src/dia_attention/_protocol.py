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

from ._sources import Source
from ._splits import Data
from ._train import TrainConfig, TrainResult, build, fit

NETWORKS: dict[str, str | None] = {
    "plain": None,
    "SE": "se",
    "DIA": "dia",
    "RAS": "ras",
    "LSAS": "lsas",
    "ASR": "asr",
    "StepNet": "step",
}
_SELECTION_OFFSET = 1000


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One row of the design.

    Attributes:
        title: What is special here; it ends the sentence "DIA is more accurate than plain: ...".
        changes: The `TrainConfig` fields in which the condition differs from the protocol's `training`.
        learning_rates: The candidates of each network that takes part; with one candidate nothing is chosen.
        references: The networks with which all others are compared.
    """

    title: str
    changes: dict[str, Any]
    learning_rates: dict[str, list[float]]
    references: list[str]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a demo does, fixed in a file before its run.

    Attributes:
        seeds: Number of reported seeds, at least 2.
        selection_seeds: Number of further seeds, disjoint from the reported ones, that choose the learning rates.
        training: `TrainConfig` fields that all trainings share.
        conditions: The rows, by name. The gates, the stiffness and the gradients are looked at in the first.
        test_per_class: Test images of each class, None for all.
    """

    seeds: int
    selection_seeds: int
    training: dict[str, Any]
    conditions: dict[str, Condition]
    test_per_class: int | None = None

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
            for name, row in rows.items():
                for network in row.learning_rates:
                    protocol.config(name, network, min(row.learning_rates[network]), seed=0)
                if not row.references or set(row.references) - row.learning_rates.keys():
                    raise ValueError(f"the references {row.references} of {name} must be among its networks")
                if any(len(rates) > 1 for rates in row.learning_rates.values()) and protocol.selection_seeds < 1:
                    raise ValueError("a choice of learning rates needs selection_seeds")
            if protocol.seeds < 2 or not rows:
                raise ValueError("there must be a condition, and an interval needs at least 2 seeds")
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
            for network in row.learning_rates
            for rate in row.learning_rates[network]
            for seed in seeds
            if len(row.learning_rates[network]) > 1
        ]

    def choose(self, jobs: list["Job"], results: list[TrainResult]) -> dict[tuple[str, str], float]:
        """The learning rate of each cell: best mean validation accuracy, the smaller rate in a tie."""
        chosen = {}
        for condition, row in self.conditions.items():
            for network in row.learning_rates:
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
            for condition, row in self.conditions.items()
            for network in row.learning_rates
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


@dataclass(frozen=True)
class Places:
    """Where the data of the protocols lie, which is no part of a protocol."""

    root: Path | None
    cache: Path | None

    def source(self, config: TrainConfig) -> Source:
        """The data of a training."""
        return Source(data=config.data, root=self.root, cache=self.cache, size=config.size)

    def load(self, config: TrainConfig) -> Data:
        """The training and validation images of a training."""
        source = self.source(config)
        return source.load(
            seed=config.seed, per_class=config.per_class, validation_per_class=config.validation_per_class
        )


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
    jobs: list[Job], directory: Path, device: torch.device, places: Places, *, pool: ProcessPoolExecutor, label: str
) -> list[TrainResult]:
    """Train every job below `directory` and give the results in order.

    A finished training is only read again, a broken one goes on from its checkpoint.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    futures = [pool.submit(_run_job, job.config, directory / job.name, str(device), places) for job in jobs]
    for future in tqdm(as_completed(futures), total=len(jobs), delay=2, disable=None, unit="training", desc=label):
        future.result()
    return [future.result() for future in futures]


def _run_job(config: TrainConfig, directory: Path, device: str, places: Places) -> TrainResult:
    data = places.load(config)
    return fit(build(config, data), data, config, directory, device=torch.device(device))


def _prepare_worker() -> None:
    """One thread, and no life after the parent: a killed demo leaves no process behind."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
