"""The main job in one command: plain net against DIA on real handwritten digits, whole and with parts taken away."""

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from sail_core.extras import needs
from sail_core.report import Report, verdict
from sail_core.runs import Run, latest, load_state, pick_device
from torch import Tensor, nn

from . import __version__
from . import _demo_figures as figures
from ._data import batches, digits, digits_test
from ._metrics import collect_gates, gradient_norms, layer_correlation
from ._protocol import NETWORKS, Job, Protocol, run_jobs, worker_pool
from ._train import TrainResult, accuracy, build


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Plain net against DIA on scikit-learn's digits: few images, and without augmentation, BatchNorm or skips."""

    out: Path = Path("runs/demo/dia-attention")
    """Receives the trainings, report.json and the figures; started again, the demo goes on from there."""
    seed: int = 0
    """The first of the protocol's consecutive seeds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    full: bool = False
    """The longer protocol: more seeds, longer trainings, learning rates chosen on validation images."""
    protocol: Path | None = None
    """Another protocol file instead of the two that come with the package."""
    workers: int = 2
    """Trainings at the same time, one thread each; no result depends on it."""


def demo(config: DemoConfig) -> None:
    """Compare the plain net with DIA on handwritten digits; write report.json and figures.

    Learning rates are chosen on the validation accuracy of selection seeds that no reported training uses. The test
    digits are read once, after all trainings, and are reported whatever they say.

    Raises:
        ValueError: `out` holds the demo of another protocol, seed or device.
        MissingExtra: matplotlib or scikit-learn is not installed.
    """
    with worker_pool(config.workers) as pool:  # first, because its processes take long to import torch
        _demo(config, pool)


def _demo(config: DemoConfig, pool: ProcessPoolExecutor) -> None:
    with needs("dia-attention", "demo"):  # now, not after the trainings
        import matplotlib.figure  # noqa: F401
        import sklearn.datasets  # noqa: F401
    path = config.protocol or Path(__file__).parent / "protocols" / ("full.json" if config.full else "quick.json")
    protocol = Protocol.read(path)
    device = pick_device(config.device)
    report = Report(
        "dia-attention",
        __version__,
        seed=config.seed,
        profile=path.stem,
        device=str(device),
        protocol=path,
    )
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    Run(config.out, config={"protocol": f"{path.stem} {sha}", "seed": config.seed, "device": device.type})

    trainings = config.out / "trainings"
    choice = protocol.selection(config.seed)
    chosen = run_jobs(choice, trainings, device, pool=pool, label="choosing learning rates")
    jobs = protocol.reported(config.seed, protocol.choose(choice, chosen))
    results = run_jobs(jobs, trainings, device, pool=pool, label="plain against DIA")

    models = [_trained(job, trainings, device) for job in jobs]
    test = digits_test()
    tested = [accuracy(model, test) for model in models]  # the only use of the test digits
    table = _tabulate(protocol, jobs, results, tested)

    base = next(iter(protocol.conditions))
    pairs = zip(jobs, models, strict=True)
    gates = [
        collect_gates(model, [digits(seed=job.config.seed).validation.images.to(device)])
        for job, model in pairs
        if job.network == "DIA" and job.condition == base
    ]
    correlation = [{name: layer_correlation(stage) for name, stage in _by_stage(seed).items()} for seed in gates]
    gradients = _initial_gradients(protocol, config.seed)
    report.metrics |= {
        condition: {network: table[condition][network] for network in NETWORKS} for condition in protocol.conditions
    }
    if choice:
        report.metrics["validation accuracy of the selection seeds"] = _selection(choice, chosen)
    report.metrics["mean gate correlation of different blocks"] = {
        name: [_off_diagonal(seed[name]) for seed in correlation] for name in correlation[0]
    }
    report.metrics["largest over smallest gradient before training"] = {
        condition: {network: max(norms) / min(norms) for network, norms in networks.items()}
        for condition, networks in gradients.items()
    }
    report.verdicts += [table[condition]["verdict"] for condition in protocol.conditions]

    runs = [
        (job.condition, job.network, trainings / job.name / "metrics.jsonl", result.nonfinite_step)
        for job, result in zip(jobs, results, strict=True)
    ]
    report.add_figure(figures.accuracies(table), "accuracy")
    report.add_figure(figures.curves(runs), "training-loss")
    report.add_figure(figures.correlations(_mean_over_seeds(correlation)), "gate-correlation")
    report.add_figure(figures.depth(gates[0], gradients), "depth")
    report.write(config.out)
    print(report.table())


def _trained(job: Job, trainings: Path, device: torch.device) -> nn.Module:
    """The net of a finished training, in eval mode."""
    checkpoint = latest(trainings / job.name)
    assert checkpoint is not None, "fit ends with a checkpoint"
    model = build(job.config)
    model.load_state_dict(load_state(checkpoint)["model"])
    return model.to(device).eval()


def _tabulate(
    protocol: Protocol, jobs: list[Job], results: list[TrainResult], tested: list[float]
) -> dict[str, dict[str, Any]]:
    """For each condition what the report says of both networks, seed by seed, and the verdict on their difference."""
    table: dict[str, dict[str, Any]] = {}
    for name, condition in protocol.conditions.items():
        row: dict[str, Any] = {}
        for network in NETWORKS:
            of = [at for at, job in enumerate(jobs) if (job.condition, job.network) == (name, network)]
            row[network] = {
                "test": [tested[at] for at in of],
                "validation": [results[at].validation_accuracy for at in of],
                "learning rate": jobs[of[0]].config.learning_rate,
                "first non-finite step": [results[at].nonfinite_step for at in of],
            }
        differences = [dia - plain for plain, dia in zip(row["plain"]["test"], row["DIA"]["test"], strict=True)]
        row["verdict"] = verdict(condition.claim, "DIA - plain > 0", differences)
        table[name] = row
    return table


def _selection(jobs: list[Job], results: list[TrainResult]) -> dict[str, list[float]]:
    """What the learning rates were chosen by, seed by seed."""
    found: dict[str, list[float]] = {}
    for job, result in zip(jobs, results, strict=True):
        name = f"{job.condition}, {job.network}, {job.config.learning_rate:g}"
        found.setdefault(name, []).append(result.validation_accuracy)
    return found


def _initial_gradients(protocol: Protocol, seed: int) -> dict[str, dict[str, list[float]]]:
    """Gradient norm at every convolution before training, on the first batch of `seed`, once for each architecture."""
    found: dict[str, dict[str, list[float]]] = {}
    seen = set()
    for name, condition in protocol.conditions.items():
        config = protocol.config(name, "plain", min(condition.learning_rates["plain"]), seed=seed)
        architecture = (config.depth, config.batch_norm, config.skip)
        if architecture in seen:
            continue
        seen.add(architecture)
        found[name] = {}
        for network in NETWORKS:
            config = protocol.config(name, network, min(condition.learning_rates[network]), seed=seed)
            train = digits(seed=seed, per_class=config.per_class).train
            model = build(config)
            images, labels = next(batches(train, config.batch_size, seed=seed, epoch=0, augment=config.augment))
            found[name][network] = list(gradient_norms(model, F.cross_entropy(model(images), labels)).values())
    return found


def _by_stage(gates: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The gates of a net stage by stage: a block's path without its last part is its stage."""
    stages: dict[str, dict[str, Tensor]] = {}
    for path, gate in gates.items():
        stages.setdefault(path.rpartition(".")[0], {})[path] = gate
    return stages


def _off_diagonal(matrix: Tensor) -> float:
    """Mean over the pairs of different blocks."""
    size = len(matrix)
    return matrix[~torch.eye(size, dtype=torch.bool)].mean().item()


def _mean_over_seeds(correlation: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([seed[name] for seed in correlation]).mean(0) for name in correlation[0]}
