"""The main job in one command: host against host with CEM on a simulated service, and costs against the known truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sail_core.extras import needs
from sail_core.report import Report, verdict
from sail_core.runs import pick_device, seed_everything

from . import __version__
from . import _demo_figures as figures
from ._cem import CEM, CEMConfig
from ._evaluate import choose_threshold, predict
from ._fit import FitConfig, fit
from ._types import Dialogue
from ._vocab import Vocab
from .baselines import Always, Keyword, Never, TfidfLogistic
from .data import Simulation, simulate
from .hosts import HandoffModel
from .metrics import handoff_report
from .ope import Logs, evaluate_policy
from .plots import draw_timeline, timeline
from .streaming import StreamingScorer

COLUMNS = ("f1", "macro_f1", "auc", "gt1", "gt2", "gt3", "error_cost")
HOST_ALONE = CEMConfig(beta=0.0, sentiment_weight=0.0, satisfaction_weight=0.0, cost_weight=0.0)
CONDITIONS = {"host": HOST_ALONE, "host+CEM": CEMConfig()}
FRESH = 100_000  # of the seeds of the logs that costs are estimated from, so that no training has seen them


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Host against host with CEM on a simulated customer service, beside baselines; costs against the known truth."""

    out: Path = Path("runs/demo/cem-mhch")
    """Receives report.json and the figures."""
    seed: int = 0
    """The first of consecutive seeds: of the dialogues, the weights and the training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    full: bool = False
    """More dialogues, seeds and logs."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Sizes of a demo: seeds, dialogues to train, choose and test on, and logs of dialogues to estimate costs from."""

    seeds: int
    train: int
    val: int
    test: int
    logs: int
    fit: FitConfig


QUICK = Profile(seeds=2, train=200, val=60, test=150, logs=10, fit=FitConfig(epochs=10, learning_rate=6e-3))
FULL = Profile(seeds=3, train=400, val=100, test=200, logs=40, fit=FitConfig(epochs=12, learning_rate=6e-3))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one seed trained, with everything needed to use it."""

    models: dict[str, CEM]
    thresholds: dict[str, float]
    vocab: Vocab
    test: list[Dialogue]
    rows: dict[str, dict[str, Any]]


def demo(config: DemoConfig) -> None:
    """Train host and host with CEM on simulated dialogues; write report.json and figures.

    Thresholds are chosen on validation dialogues. The cost of the trained policy is then estimated from fresh logs of
    another policy, and compared with the truth that only a simulator knows.

    Raises:
        MissingExtra: matplotlib or scikit-learn is not installed.
    """
    with needs("cem-mhch", "demo"):  # now, not after the trainings
        import matplotlib.figure  # noqa: F401
        import sklearn.linear_model  # noqa: F401
    from tqdm import tqdm  # type: ignore[import-untyped]

    profile, name = (FULL, "full") if config.full else (QUICK, "default")
    device = pick_device(config.device)
    report = Report("cem-mhch", __version__, seed=config.seed, profile=name, device=str(device))
    seeds = range(config.seed, config.seed + profile.seeds)
    trained = [_train(seed, profile, device) for seed in tqdm(seeds, delay=2, disable=None, unit="seed")]
    first = trained[0]
    costs = _costs(first, profile, config.seed)
    table = {model: [one.rows[model] for one in trained] for model in first.rows}

    report.metrics["test"] = {
        model: {column: [row[column] for row in rows] for column in COLUMNS} for model, rows in table.items()
    }
    report.metrics["threshold"] = {model: [one.thresholds[model] for one in trained] for model in CONDITIONS}
    report.metrics["learned beta"] = [one.models["host+CEM"].beta.item() for one in trained]
    report.metrics["cost of a turn under host+CEM"] = {
        estimator: {"first log": values[0], "mean error": float(np.mean(np.subtract(values, costs["truth"])))}
        for estimator, values in costs.items()
    }
    report.metrics["streaming, ms a turn"] = _latency(first)

    def paired(better: str, worse: str) -> list[float]:
        return [one["macro_f1"] - two["macro_f1"] for one, two in zip(table[better], table[worse], strict=True)]

    errors = {name: np.abs(np.subtract(costs[name], costs["truth"])) for name in ("naive", "dr")}
    report.verdicts += [
        verdict("host+CEM scores above TF-IDF + LR", "macro-F1 > 0", paired("host+CEM", "tfidf")),
        verdict("host+CEM scores above its host alone", "macro-F1 > 0", paired("host+CEM", "host")),
        verdict(
            "the doubly robust cost is nearer to the truth than the naive one",
            "|naive error| - |dr error| > 0",
            (errors["naive"] - errors["dr"]).tolist(),
        ),
    ]
    report.add_figure(figures.scores(table), "scores")
    report.add_figure(figures.costs(costs), "costs")
    scorer = StreamingScorer(
        first.models["host+CEM"], vocab=first.vocab, threshold=first.thresholds["host+CEM"], cooldown=2
    )
    report.add_figure(draw_timeline(timeline(scorer, _telling(first.test))), "timeline")
    report.write(config.out)
    print(_lines(table))
    del report.metrics["test"]  # the table above has it
    print(f"\n{report.table()}")


def _train(seed: int, profile: Profile, device: torch.device) -> Trained:
    """Train all models of a seed and score them on its test dialogues."""
    dialogues = simulate(profile.train + profile.val + profile.test, seed=seed).dialogues
    train, rest = dialogues[: profile.train], dialogues[profile.train :]
    val, test = rest[: profile.val], rest[profile.val :]
    vocab = Vocab.build(train)
    labels = [[turn.handoff or 0 for turn in one.turns] for one in test]
    rows = {}
    for baseline in (Never(), Always(), Keyword(), TfidfLogistic().fit(train)):
        scores = baseline.score(test)
        rows[baseline.name] = handoff_report(labels, [[int(p >= 0.5) for p in one] for one in scores], scores)
    models, thresholds = {}, {}
    for name, condition in CONDITIONS.items():
        seed_everything(seed)
        model = CEM(HandoffModel.build("hgru", vocab_size=len(vocab)), condition)
        fit(model, train, vocab=vocab, config=replace(profile.fit, seed=seed), device=device)
        threshold = choose_threshold(model, val, vocab=vocab)
        found = [one.tolist() for one in predict(model, test, vocab=vocab).scores]
        rows[name] = handoff_report(labels, [[int(p >= threshold) for p in one] for one in found], found)
        models[name], thresholds[name] = model, threshold
    return Trained(models=models, thresholds=thresholds, vocab=vocab, test=test, rows=rows)


def _costs(trained: Trained, profile: Profile, seed: int) -> dict[str, list[float]]:
    """Mean cost of a turn under host+CEM, from each of several logs of another policy, by every estimator."""
    model, threshold = trained.models["host+CEM"], trained.thresholds["host+CEM"]
    found: dict[str, list[float]] = {name: [] for name in ("truth", "naive", "ips", "snips", "dr")}
    for number in range(profile.logs):
        simulation = simulate(profile.test, seed=FRESH + 1000 * seed + number)
        for name, value in _estimates(model, threshold, trained.vocab, simulation).items():
            found[name].append(value)
    return found


def _estimates(model: CEM, threshold: float, vocab: Vocab, simulation: Simulation) -> dict[str, float]:
    logs = Logs.from_dialogues(simulation.dialogues)
    scored = predict(model, simulation.dialogues, vocab=vocab)
    policy = (np.concatenate(scored.scores) >= threshold).astype(int)
    potential = np.concatenate(simulation.potential)
    estimates = {
        "truth": float(np.take_along_axis(potential, policy[:, None], 1).mean()),
        "naive": float(logs.cost[logs.action == policy].mean()),
        "dr": evaluate_policy(logs, policy, estimator="dr", predicted=np.concatenate(scored.cost)).value,
    }
    return estimates | {name: evaluate_policy(logs, policy, estimator=name).value for name in ("ips", "snips")}


def _latency(trained: Trained) -> dict[str, float]:
    """Half and 99 % of the pushes took at most this long; host+CEM, batch 1, one dialogue after the other."""
    scorer = StreamingScorer(trained.models["host+CEM"], vocab=trained.vocab)
    taken = []
    for dialogue in trained.test[:60]:
        scorer.reset()
        taken += [scorer.push(turn.role, turn.text or "").latency_ms for turn in dialogue.turns]
    return {"p50": float(np.percentile(taken, 50)), "p99": float(np.percentile(taken, 99))}


def _telling(dialogues: list[Dialogue]) -> Dialogue:
    """The longest dialogue whose first handoff comes neither at once nor at its end."""

    def middle(dialogue: Dialogue) -> bool:
        gold = [at for at, turn in enumerate(dialogue.turns) if turn.handoff]
        return bool(gold) and 2 < gold[0] < len(dialogue.turns) - 2

    return max((one for one in dialogues if middle(one)), key=lambda one: len(one.turns), default=dialogues[0])


def _lines(table: dict[str, list[dict[str, Any]]]) -> str:
    """The means over seeds, aligned."""
    lines = [f"{'':10}" + "".join(f"{column:>11}" for column in COLUMNS)]
    for model, rows in table.items():
        means = [np.mean([row[column] for row in rows]) for column in COLUMNS]
        digits = [1 if column == "error_cost" else 3 for column in COLUMNS]
        lines.append(f"{model:10}" + "".join(f"{mean:11.{d}f}" for mean, d in zip(means, digits, strict=True)))
    return "\n".join(lines)
