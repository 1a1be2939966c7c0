"""The main job in one command: a small diffusion model that reads keywords learns, by an adapter, to read sentences."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from sail_core.extras import MissingExtra, needs
from sail_core.report import Report
from sail_core.runs import Run, pick_device
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from . import __version__
from ._toy import _figures as figures
from ._toy._digits import load_digits
from ._toy._experiment import Result, run_seed
from ._toy._judge import train_judge
from ._toy._protocol import Protocol
from ._toy._summary import table_of, tabulate, verdicts
from ._toy._teacher import teacher_vectors
from ._toy._world import Kind

Key = tuple[Kind, int]


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Handwritten digits drawn from keywords and from sentences, without and with an adapter."""

    out: Path = Path("runs/demo/sur-adapter")
    """Receives the models, report.json and the figures; started again, the demo goes on from there."""
    seed: int = 0
    """Added to the protocol's seeds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    full: bool = False
    """The longer protocol: three seeds, an ablation, counting."""
    protocol: Path | None = None
    """Another protocol file instead of the two that come with the package."""
    workers: int = 2
    """Seeds at the same time, one thread each; no result depends on it."""


def demo(config: DemoConfig) -> None:
    """Train the toy base, the adapter and the ablations of a protocol; print the table, save report and figures.

    Raises:
        ValueError: ``out`` holds the demo of another protocol, seed or device, or an option is out of range.
        MissingExtra: matplotlib, scikit-learn or the protocol's teacher is not installed.
    """
    with needs("sur-adapter", "demo"):  # now, not after the trainings
        import matplotlib.figure  # noqa: F401
        import sklearn.datasets  # noqa: F401
    if config.workers < 1:
        raise ValueError(f"workers is {config.workers}; it must be at least 1")
    path = config.protocol or Path(__file__).parent / "protocols" / ("full.json" if config.full else "quick.json")
    protocol = Protocol.read(path)
    device = pick_device(config.device)
    report = Report("sur-adapter", __version__, seed=config.seed, profile=path.stem, device=device, protocol=path)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    Run(config.out, config={"protocol": f"{path.stem} {sha}", "seed": config.seed, "device": device.type})
    teachers = _teachers(protocol, config.out)
    found = run_all(protocol, config, device, teachers)

    report.metrics["teacher"] = "all-MiniLM-L6-v2" if teachers else "none"
    judge = train_judge(*load_digits())
    report.metrics["judge on real pictures of other writers"] = {
        "digits": judge.digit_accuracy,
        "counts": judge.count_accuracy,
    }
    accuracy = tabulate(found)
    report.metrics["accuracy"] = {suite: row.as_dict() for suite, row in accuracy.items()}
    report.metrics["training seconds, processor"] = {
        f"{kind}, {name}": [round(found[key][name].seconds, 1) for key in found if key[0] == kind]
        for kind in protocol.worlds
        for name in protocol.systems
    }
    report.verdicts += verdicts(found)
    for name, figure in figures.all_figures(protocol, found, accuracy, config.out).items():
        report.add_figure(figure, name)
    report.write(config.out)
    print(table_of(accuracy))
    print()
    print(report.table())
    print(
        "\nToy models of 1.0 million parameters on 8 x 8 digits, whose text encoder has read keywords only; "
        "not Stable Diffusion."
    )


def run_all(
    protocol: Protocol, config: DemoConfig, device: torch.device, teachers: dict[Kind, Tensor]
) -> dict[Key, dict[str, Result]]:
    """Every seed of every world, in processes when there are several."""
    keys: list[Key] = [(kind, config.seed + seed) for kind, seeds in protocol.worlds.items() for seed in seeds]
    arguments = {
        (kind, seed): (protocol, kind, seed, config.out / f"{kind}-{seed}", teachers.get(kind), str(device))
        for kind, seed in keys
    }
    if len(keys) == 1 or config.workers == 1 or device.type != "cpu":
        return {key: _run(*arguments[key], True) for key in keys}
    found: dict[Key, dict[str, Result]] = {}
    with (
        ProcessPoolExecutor(min(config.workers, len(keys)), mp_context=multiprocessing.get_context("spawn")) as pool,
        tqdm(total=len(keys), desc="seeds", disable=None, leave=False) as bar,
    ):
        jobs = {pool.submit(_run, *arguments[key], False): key for key in keys}
        for job in as_completed(jobs):
            found[jobs[job]] = job.result()
            bar.update()
    return {key: found[key] for key in keys}


def _run(
    protocol: Protocol, kind: Kind, seed: int, out: Path, teacher: Tensor | None, device: str, progress: bool
) -> dict[str, Result]:
    return run_seed(protocol, kind, seed, out, teacher=teacher, device=device, progress=progress)


def _teachers(protocol: Protocol, out: Path) -> dict[Kind, Tensor]:
    """By world, the teacher's vectors of the training prompts; none where its extra is not installed."""
    found: dict[Kind, Tensor] = {}
    if protocol.teacher is not None:
        with suppress(MissingExtra):
            for kind in protocol.worlds:
                texts = [one.narrative for one in protocol.training_prompts(kind)]
                found[kind] = teacher_vectors(texts, out / f"teacher-{kind}")
    return found
