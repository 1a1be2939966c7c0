"""Run a protocol, draw pictures from its first group, and write report and figures."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sail_core.report import Report, Verdict, figure_style, verdict
from torch import Tensor

from ._build import conditioned
from ._data import Images, load_images
from ._evaluate import quality, train_classifier
from ._experiment import Job, Measured, Protocol, judge, largest_stable, run_jobs, tabulate
from ._sample import sample
from ._train import load_trained


def compare(
    path: Path, out: Path, *, version: str, seed: int, profile: str, device: str, workers: int | None
) -> Report:
    """Run every training of a protocol below ``out``, or go on with what is there, and write the report.

    Args:
        path: The protocol file; its SHA-256 goes into the report.
        out: Receives ``runs/``, ``report.json`` and the figures.
        version: Of this package.
        seed: The first seed.
        profile: Named in the report.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        workers: Processes that train at once; None is one a core.

    Returns:
        The written report.

    Raises:
        ValueError: The file is not a protocol.
        MissingExtra: What the demo needs is not installed.
    """
    from . import _figures as figures

    protocol = Protocol.read(path)
    report = Report("scalelong", version, seed=seed, profile=profile, device=device, protocol=path)
    with figure_style():  # fails now, not after the trainings, when matplotlib is absent
        pass
    jobs = protocol.jobs(seed)
    results = run_jobs(jobs, out / "runs", protocol, device=device, workers=workers or os.cpu_count() or 1)
    table = tabulate(jobs, results)
    report.metrics |= {"runs": table, "largest stable learning rate": largest_stable(table)}
    report.verdicts += judge(protocol, jobs, results)
    for group in protocol.groups:
        chosen = [(job, result) for job, result in zip(jobs, results, strict=True) if job.group == group]
        report.add_figure(figures.stability(chosen), f"stability-{_slug(group)}")
    if len(next(iter(protocol.groups.values())).learning_rates) > 1:
        report.add_figure(figures.stable_rates(table), "final-loss")
    if protocol.samples:
        found, pictures, real = _draw(protocol, jobs, results, out)
        report.metrics["quality"] = found
        report.verdicts += _judge_quality(found)
        report.add_figure(figures.samples(real, pictures), "samples")
        report.add_figure(figures.quality(found), "quality")
    report.write(out)
    return report


def _slug(words: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in words).strip("-")


def _draw(
    protocol: Protocol, jobs: Sequence[Job], results: Sequence[Measured], out: Path
) -> tuple[dict[str, dict[str, list[float]]], dict[str, Tensor], Tensor]:
    """Give each arm's quality seed by seed, its first pictures, and real ones: of the first group at its first rate."""
    group = next(iter(protocol.groups))
    rate = protocol.groups[group].learning_rates[0]
    found: dict[str, dict[str, list[float]]] = {}
    pictures: dict[str, Tensor] = {}
    real: Images | None = None
    classifier = None
    for job, result in zip(jobs, results, strict=True):
        if job.group != group or job.config.learning_rate != rate or result.nonfinite_step is not None:
            continue
        images = load_images(job.config.data, size=job.config.size)
        real = real or load_images(job.config.data, size=job.config.size, split="test")
        classifier = classifier or train_classifier(images)
        like = conditioned(images[slice(0, protocol.samples)], job.config)
        model = load_trained(out / "runs" / job.name, images)
        drawn = sample(model, like, steps=protocol.sampling_steps, seed=job.config.seed)
        pictures.setdefault(job.arm, drawn)
        for name, value in asdict(quality(classifier, real.pixels, drawn)).items():
            found.setdefault(job.arm, {}).setdefault(name, []).append(value)
    assert real is not None, "the first group has runs"
    return found, pictures, real.pixels


def _judge_quality(found: Mapping[str, Mapping[str, list[float]]]) -> list[Verdict]:
    """Judge each arm's Frechet distance against the first arm's, where both have all seeds."""
    names = list(found)
    verdicts = []
    for arm in names[1:]:
        pairs: list[tuple[Any, Any]] = list(zip(found[arm]["frechet"], found[names[0]]["frechet"], strict=False))
        claim = f"{arm} draws pictures nearer to the real ones than {names[0]} (Frechet distance, own features)"
        if len(pairs) > 1 and len(found[arm]["frechet"]) == len(found[names[0]]["frechet"]):
            verdicts.append(verdict(claim, "difference < 0", [a - b for a, b in pairs], direction="less"))
    return verdicts
