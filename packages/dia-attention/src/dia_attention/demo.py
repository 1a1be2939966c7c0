"""The main job in one command: the plain net against six attentions on real images, whole and with parts taken away."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from sail_core.extras import needs
from sail_core.report import Report, Verdict, verdict
from sail_core.runs import Run, latest, load_state, pick_device
from torch import Tensor, nn

from . import __version__, plots
from . import _demo_figures as figures
from ._demo_analysis import BiasTable, biases, gates_of, gradients, off_diagonal, stiffness
from ._protocol import Job, Places, Protocol, run_jobs, worker_pool
from ._sources import Source
from ._train import BEST, TrainResult, accuracy, build
from .metrics import by_stage, layer_correlation, stripe_score


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The plain net, SE, DIA, RAS, LSAS, ASR and StepNet on handwritten digits and on composites of them."""

    out: Path = Path("runs/demo/dia-attention")
    """Receives the trainings, report.json and the figures; started again, the demo goes on from there."""
    seed: int = 0
    """The first of the protocol's consecutive seeds."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    full: bool = False
    """The longer protocol: more seeds, longer trainings, learning rates chosen on validation images."""
    protocol: Path | None = None
    """Another protocol file instead of the two that come with the package."""
    root: Path | None = None
    """Where the images of another protocol lie; None is the folder of SAIL_DATA."""
    cache: Path | None = None
    """A folder that keeps CIFAR-10 decoded."""
    workers: int = 2
    """Trainings at the same time, one thread each; no result depends on it."""


def demo(config: DemoConfig) -> None:
    """Compare the networks of a protocol; write report.json and figures.

    Learning rates are chosen on the validation accuracy of selection seeds that no reported training uses. The test
    images are read once, after all trainings, and are reported whatever they say.

    Raises:
        ValueError: `out` holds the demo of another protocol, seed or device.
        MissingExtra: matplotlib or scikit-learn is not installed.
    """
    with worker_pool(config.workers) as pool:  # first, because its processes take long to import torch
        _demo(config, pool)


def _demo(config: DemoConfig, pool: ProcessPoolExecutor) -> None:
    with needs("dia-attention", "demo"):  # now, not after the trainings
        import matplotlib.figure  # noqa: F401
        import PIL.Image  # noqa: F401
        import sklearn.datasets  # noqa: F401
    path = config.protocol or Path(__file__).parent / "protocols" / ("full.json" if config.full else "quick.json")
    protocol = Protocol.read(path)
    device = pick_device(config.device)
    report = Report(
        "dia-attention", __version__, seed=config.seed, profile=path.stem, device=str(device), protocol=path
    )
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    Run(config.out, config={"protocol": f"{path.stem} {sha}", "seed": config.seed, "device": device.type})

    places, trainings = Places(config.root, config.cache), config.out / "trainings"
    choice = protocol.selection(config.seed)
    chosen = run_jobs(choice, trainings, device, places, pool=pool, label="choosing learning rates")
    jobs = protocol.reported(config.seed, protocol.choose(choice, chosen))
    results = run_jobs(jobs, trainings, device, places, pool=pool, label="comparing")
    models = [_trained(job, trainings / job.name, places, device) for job in jobs]
    tested = _test(protocol, jobs, trainings, models, places, device)  # the only use of the test images

    table = {name: _tabulate(protocol, name, jobs, results, tested) for name in protocol.conditions}
    report.metrics |= table
    if choice:
        report.metrics["validation accuracy of the selection seeds"] = _selection(choice, chosen)
    for name in protocol.conditions:
        report.verdicts += _verdicts(protocol, name, table[name])
    looks = _look_inside(report, protocol, jobs, models, places, device)
    runs = [
        (job.condition, job.network, trainings / job.name / "metrics.jsonl", result.nonfinite_step)
        for job, result in zip(jobs, results, strict=True)
    ]
    report.add_figure(figures.accuracies({name: table[name] for name in protocol.conditions}, protocol), "accuracy")
    report.add_figure(figures.curves(runs), "training-loss")
    for name, figure in looks.items():
        report.add_figure(figure, name)
    report.write(config.out)
    print(report.table())


def _trained(job: Job, directory: Path, places: Places, device: torch.device) -> nn.Module:
    """The net of a finished training, in eval mode."""
    checkpoint = latest(directory)
    assert checkpoint is not None, "fit ends with a checkpoint"
    model = build(job.config, places.load(job.config))
    model.load_state_dict(load_state(checkpoint)["model"])
    return model.to(device).eval()


def _test(
    protocol: Protocol,
    jobs: list[Job],
    trainings: Path,
    models: list[nn.Module],
    places: Places,
    device: torch.device,
) -> list[tuple[float, float | None]]:
    """Test accuracy of every training, at its last and, where it was kept, at its best epoch."""
    splits: dict[Source, Any] = {}
    found = []
    for job, model in zip(jobs, models, strict=True):
        source = places.source(job.config)
        if source not in splits:
            splits[source] = source.load_test(per_class=protocol.test_per_class)
        best = None
        if job.config.keep_best and latest(trainings / job.name / BEST) is not None:
            best = accuracy(_trained(job, trainings / job.name / BEST, places, device), splits[source])
        found.append((accuracy(model, splits[source]), best))
    return found


def _tabulate(
    protocol: Protocol,
    condition: str,
    jobs: list[Job],
    results: list[TrainResult],
    tested: list[tuple[float, float | None]],
) -> dict[str, Any]:
    """For each network of a condition what the report says, seed by seed."""
    rows: dict[str, Any] = {}
    for network in protocol.conditions[condition].learning_rates:
        of = [at for at, job in enumerate(jobs) if (job.condition, job.network) == (condition, network)]
        rows[network] = {
            "test": [tested[at][0] for at in of],
            "validation": [results[at].validation_accuracy for at in of],
            "learning rate": jobs[of[0]].config.learning_rate,
            "first non-finite step": [results[at].nonfinite_step for at in of],
        }
        if jobs[of[0]].config.keep_best:
            rows[network]["test at the best epoch"] = [tested[at][1] for at in of]
            rows[network]["validation at the best epoch"] = [results[at].best_validation_accuracy for at in of]
    return rows


def _verdicts(protocol: Protocol, condition: str, rows: dict[str, Any]) -> list[Verdict]:
    """Every network against every reference, by paired intervals over seeds."""
    title, found = protocol.conditions[condition].title, []
    for network, reference in _pairs(rows, protocol.conditions[condition].references):
        for field in ("test", "test at the best epoch"):
            pair = [rows[name].get(field) for name in (network, reference)]
            if None in pair or any(None in values for values in pair):
                continue
            differences = [ours - theirs for ours, theirs in zip(*pair, strict=True)]
            suffix = "" if field == "test" else ", best epoch"
            claim = f"{network} is more accurate than {reference}: {title}{suffix}"
            found.append(verdict(claim, f"{network} - {reference} > 0", differences))
    return found


def _selection(jobs: list[Job], results: list[TrainResult]) -> dict[str, list[float]]:
    """What the learning rates were chosen by, seed by seed."""
    found: dict[str, list[float]] = {}
    for job, result in zip(jobs, results, strict=True):
        name = f"{job.condition}, {job.network}, {job.config.learning_rate:g}"
        found.setdefault(name, []).append(result.validation_accuracy)
    return found


def _look_inside(
    report: Report,
    protocol: Protocol,
    jobs: list[Job],
    models: list[nn.Module],
    places: Places,
    device: torch.device,
) -> dict[str, Any]:
    """Gates, stiffness, gradients and biases: numbers into the report, and the figures by name."""
    base = next(iter(protocol.conditions))
    seeds: dict[str, list[tuple[Job, nn.Module]]] = {}
    for job, model in zip(jobs, models, strict=True):
        if job.condition == base:
            seeds.setdefault(job.network, []).append((job, model))
    gates = {
        name: [gates_of(job, model, places, device) for job, model in pairs]
        for name, pairs in seeds.items()
        if name != "plain"
    }
    correlation = {
        name: [{stage: layer_correlation(part) for stage, part in by_stage(seed).items()} for seed in found]
        for name, found in gates.items()
    }
    curves = {name: stiffness(*pairs[0], places, device) for name, pairs in seeds.items()}
    start = gradients(protocol, places)
    report.metrics["stripe score, mean over blocks"] = {
        name: [_mean([stripe_score(gate) for gate in seed.values()]) for seed in found] for name, found in gates.items()
    }
    report.metrics["mean gate correlation of different blocks"] = {
        name: {stage: [off_diagonal(seed[stage]) for seed in found] for stage in found[0]}
        for name, found in correlation.items()
    }
    report.metrics["stiffness of the first seed, mean over blocks"] = {
        name: {curve.measure: float(curve.mean.nanmean()) for curve in found} for name, found in curves.items()
    }
    report.metrics["largest over smallest gradient before training"] = {
        condition: {name: max(norms.values()) / max(min(norms.values()), 1e-300) for name, norms in networks.items()}
        for condition, networks in start.items()
    }
    looks: dict[str, Any] = {}
    if gates:
        shown = {name: _mean_over_seeds(found) for name, found in correlation.items()}
        looks["stripes"] = plots.stripes({name: list(found[0].values())[-1] for name, found in gates.items()})
        looks["gate-correlation"] = plots.correlations(
            {name: shown[name] for name in ("SE", "DIA") if name in shown} or shown
        )
        looks["gate-histogram"] = plots.gate_histogram({name: found[0] for name, found in gates.items()})
    looks["stiffness"] = plots.stiffness_depth(curves)
    looks["gradients"] = plots.gradient_depth(
        {protocol.conditions[name].title: networks for name, networks in start.items()}
    )
    for condition, row in protocol.conditions.items():
        if not protocol.config(condition, next(iter(row.learning_rates)), 0.1, seed=0).data.startswith("digits-on-"):
            continue
        of = [(job, model) for job, model in zip(jobs, models, strict=True) if job.condition == condition]
        found = biases(of, places, device)
        report.metrics[f"{condition}: attention bias"] = {
            name: {field: [asdict(seed)[field] for seed in rows] for field in asdict(rows[0])}
            for name, rows in found.rates.items()
        }
        report.verdicts += _bias_verdicts(row.references, row.title, found)
        looks[f"{condition}_grad-cam"] = plots.cam_overlays(found.images, found.maps, found.masks)
        looks[f"{condition}_bias"] = plots.bias_bars(found.rates)
    return looks


def _bias_verdicts(references: list[str], title: str, found: BiasTable) -> list[Verdict]:
    """Whether the networks have less position and range bias than the references."""
    verdicts = []
    for network, reference in _pairs(found.rates, references):
        for field in ("position", "range"):
            pairs = zip(found.rates[network], found.rates[reference], strict=True)
            differences = [asdict(ours)[field] - asdict(theirs)[field] for ours, theirs in pairs]
            claim = f"{network} has less {field} bias than {reference}: {title}"
            verdicts.append(verdict(claim, f"{network} - {reference} < 0", differences, direction="less"))
    return verdicts


def _pairs(networks: Iterable[str], references: list[str]) -> list[tuple[str, str]]:
    """Every network with every reference, no two of them twice."""
    names = list(networks)
    return [
        (network, reference)
        for at, reference in enumerate(references)
        for network in names
        if network not in references[: at + 1]
    ]


def _mean(values: list[float]) -> float:
    """Mean of the values that are defined; NaN where none is."""
    return float(torch.tensor(values).nanmean())


def _mean_over_seeds(correlation: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([seed[name] for seed in correlation]).nanmean(0) for name in correlation[0]}
