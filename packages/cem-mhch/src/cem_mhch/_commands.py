"""The commands that use a model: train, evaluate, score, plot, serve, bench."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from sail_core.report import Report
from sail_core.runs import pick_device, seed_everything

from ._cem import CEM, CEMConfig
from ._cost import CostModel
from ._evaluate import predict
from ._fit import FitConfig, fit
from ._folder import load_folder, save_folder
from ._table import baseline_scores, comparison
from ._types import Dialogue
from ._vocab import Encoder, Vocab
from .data import load_jsonl, validate
from .hosts import HandoffModel
from .metrics import threshold_for_rate
from .streaming import Rules, StreamingScorer


@dataclass(frozen=True, kw_only=True)
class TrainCommand(FitConfig):
    """Train a host with CEM on labelled dialogues; the same command goes on where a killed one stopped."""

    data: Path
    """Training dialogues, JSON lines."""
    val: Path | None = None
    """Dialogues that choose the epoch."""
    out: Path = Path("runs/train/cem-mhch")
    """The model goes to its folder `model`, checkpoints beside it."""
    host: str = "hgru"
    """hgru, dami_lite, rssn or hf:MODEL."""
    beta: float = 1.0
    """Start of the user-state correction; 0 leaves it out."""
    missed_cost: float = 3.0
    """Cost of a missed handoff, where a false one costs 1."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Compare a model with the baselines on labelled dialogues, and write the report."""

    model: Path
    data: Path
    train: Path | None = None
    """Dialogues to fit the TF-IDF baseline on; without them it is left out."""
    threshold: float = 0.5
    max_handoffs_per_100: float | None = None
    """Set the threshold by this rate on the dialogues of `rate-data` instead."""
    rate_data: Path | None = None
    max_turns: int | None = None
    llm_url: str | None = None
    """A server with OpenAI's chat interface, to judge as a further baseline."""
    llm_model: str = "default"
    out: Path = Path("runs/evaluate/cem-mhch")


@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """How scores become decisions."""

    model: Path
    threshold: float = 0.5
    patience: int = 1
    cooldown: int = 0
    rules: bool = True
    """Hand over on an explicit request or repeated fallbacks, whatever the score."""


@dataclass(frozen=True, kw_only=True)
class ScoreCommand(ScorerOptions):
    """Decide turn by turn: JSON lines {"session_id", "role", "text" or "tokens"} in, decisions out."""

    data: Path | None = None
    """A file; standard input without it."""


@dataclass(frozen=True, kw_only=True)
class PlotCommand(ScorerOptions):
    """Draw the timeline of a dialogue as SVG, PNG and HTML, and reliability and cost over all labelled dialogues."""

    data: Path
    dialogue: str | None = None
    """Its id; the first one with a handoff without it."""
    missed_cost: float = 3.0
    out: Path = Path("runs/plot/cem-mhch")


@dataclass(frozen=True, kw_only=True)
class ServeCommand(ScorerOptions):
    """Serve the scorer over HTTP, see /docs there."""

    host: str = "127.0.0.1"
    port: int = 8765
    max_sessions: int = 10_000


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Time a model on this machine: batches, and turns one by one; simulated dialogues, one thread."""

    model: Path | None = None
    """Without it the light host with random weights."""
    dialogues: int = 300


def train(config: TrainCommand) -> None:
    """Train on labelled dialogues, or go on with the training of the run directory."""
    dialogues = load_jsonl(config.data)
    if not dialogues:
        raise ValueError(f"{config.data}: there is no dialogue to train on")
    val = None if config.val is None else load_jsonl(config.val)
    seed_everything(config.seed)
    vocab: Encoder | None = None
    options: dict[str, Any] = {}
    if config.host.startswith("hf:"):
        from .integrations.tokenizer import TransformersTokenizer

        vocab = TransformersTokenizer(config.host.removeprefix("hf:"))
    elif all(turn.tokens is not None for one in dialogues for turn in one.turns):
        options["vocab_size"] = 1 + max(
            token for one in (*dialogues, *(val or ())) for turn in one.turns for token in turn.tokens or (1,)
        )
    else:
        vocab = Vocab.build(dialogues)
        options["vocab_size"] = len(vocab)
    if "vocab_size" in options:
        validate([*dialogues], vocab_size=options["vocab_size"])
    host = HandoffModel.build(config.host, **options)
    model = CEM(host, CEMConfig(beta=config.beta), CostModel(missed_handoff=config.missed_cost))
    settings = FitConfig(**{field.name: getattr(config, field.name) for field in fields(FitConfig)})
    device = pick_device(config.device)
    result = fit(model, dialogues, val, vocab=vocab, config=settings, directory=config.out, device=device)
    save_folder(config.out / "model", model, vocab if isinstance(vocab, Vocab) else None)
    kept = "" if result.validation_macro_f1 is None else f", validation macro-F1 {result.validation_macro_f1:.4f}"
    print(f"{result.steps} steps, epoch {result.best_epoch} kept{kept}, model in {config.out / 'model'}")


def evaluate(config: EvaluateCommand) -> None:
    """Print the table of the model and the baselines."""
    from . import __version__

    model, vocab = load_folder(config.model)
    test = _labelled(config.data)
    threshold = config.threshold
    if config.max_handoffs_per_100 is not None:
        if config.rate_data is None:
            raise ValueError("max-handoffs-per-100 needs rate-data, dialogues that are not those of the evaluation")
        found = predict(model, load_jsonl(config.rate_data), vocab=vocab, max_turns=config.max_turns)
        threshold = threshold_for_rate([one.tolist() for one in found.scores], config.max_handoffs_per_100)
    scores = baseline_scores(
        test,
        train=None if config.train is None else load_jsonl(config.train),
        llm=None if config.llm_url is None else (config.llm_url, config.llm_model),
        max_turns=config.max_turns,
    )
    found = predict(model, test, vocab=vocab, max_turns=config.max_turns)
    scores["cem-mhch"] = [one.tolist() for one in found.scores]
    labels = [[turn.handoff or 0 for turn in one.turns[: config.max_turns]] for one in test]
    rows, table = comparison(labels, scores, thresholds={"cem-mhch": threshold})
    report = Report("cem-mhch", __version__, seed=0, profile="evaluate", device="cpu")
    report.metrics = {"threshold": threshold, "models": rows}
    path = report.write(config.out)
    print(f"{table}\n\nthreshold of cem-mhch {threshold:.4g}, report in {path}")


def score(config: ScoreCommand) -> None:
    """Write one decision a line, in the order of the turns."""
    from .data._jsonl import json_lines
    from .streaming import Sessions

    loaded = load_folder(config.model)
    sessions = Sessions(lambda: _scorer(config, loaded))
    for where, row in json_lines(config.data) if config.data is not None else _stdin():
        name, role = row.get("session_id"), row.get("role")
        content = row["text"] if isinstance(row.get("text"), str) else row.get("tokens")
        if not isinstance(name, str) or not isinstance(role, str) or not isinstance(content, str | list):
            raise ValueError(f"{where}: expected session_id, role, and text or tokens")
        try:
            decision = sessions.push(name, role, content)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        print(json.dumps({"session_id": name, **decision._asdict()}), flush=True)


def plot(config: PlotCommand) -> None:
    """Write the figures and the page."""
    from sail_core.runs import write_atomic

    from . import __version__
    from .plots import draw_cost_recall, draw_reliability, draw_timeline, timeline, timeline_html

    dialogues = load_jsonl(config.data)
    chosen = _choose(dialogues, config.dialogue)
    scorer = _scorer(config)
    found = timeline(scorer, chosen)
    report = Report("cem-mhch", __version__, seed=0, profile="plot", device="cpu")
    report.add_figure(draw_timeline(found), "timeline")
    labelled = [one for one in dialogues if all(turn.handoff is not None for turn in one.turns)]
    if labelled:
        scores = [one.tolist() for one in predict(scorer.model, labelled, vocab=scorer.vocab).scores]
        labels = [[turn.handoff or 0 for turn in one.turns] for one in labelled]
        report.add_figure(draw_reliability(labels, {"cem-mhch": scores}), "reliability")
        cost = CostModel(missed_handoff=config.missed_cost)
        report.add_figure(draw_cost_recall(labels, {"cem-mhch": scores}, cost=cost), "cost_recall")
    write_atomic(config.out / "timeline.html", timeline_html(found))
    report.write(config.out)
    print(f"dialogue {chosen.id}: {config.out / 'timeline.html'} and the figures beside it")


def serve(config: ServeCommand) -> None:
    """Serve until interrupted."""
    from sail_core.extras import needs

    from .integrations.fastapi import create_app

    with needs("cem-mhch", "serve"):
        import uvicorn
    torch.set_num_threads(1)
    model, vocab = load_folder(config.model)
    app = create_app(
        model,
        vocab=vocab,
        threshold=config.threshold,
        patience=config.patience,
        cooldown=config.cooldown,
        rules=Rules() if config.rules else None,
        max_sessions=config.max_sessions,
    )
    uvicorn.run(app, host=config.host, port=config.port, log_level="warning", access_log=False)


def bench(config: BenchCommand) -> None:
    """Print utterances a second in batches, and the latency of single pushes."""
    from ._timing import time_batches, time_pushes
    from .data import simulate

    if config.model is None:
        dialogues = simulate(config.dialogues).dialogues
        words = Vocab.build(dialogues)
        vocab: Encoder | None = words
        model = CEM(HandoffModel.build("hgru", vocab_size=len(words)))
    else:
        dialogues = simulate(config.dialogues).dialogues
        model, vocab = load_folder(config.model)
        if vocab is None:
            raise ValueError("the model reads ids and has no vocabulary; bench writes text")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rate = time_batches(model, dialogues, vocab)
        latency = time_pushes(StreamingScorer(model, vocab=vocab), dialogues)
    finally:
        torch.set_num_threads(threads)
    print(f"batches   {rate:,.0f} utterances/s, one thread, text to ids included")
    print(f"streaming p50 {latency[0]:.3f} ms, p99 {latency[1]:.3f} ms a turn")


def _scorer(config: ScorerOptions, loaded: tuple[CEM, Encoder | None] | None = None) -> StreamingScorer:
    model, vocab = loaded or load_folder(config.model)
    return StreamingScorer(
        model,
        vocab=vocab,
        threshold=config.threshold,
        patience=config.patience,
        cooldown=config.cooldown,
        rules=Rules() if config.rules else None,
    )


def _labelled(path: Path) -> list[Dialogue]:
    dialogues = load_jsonl(path)
    for one in dialogues:
        for number, turn in enumerate(one.turns):
            if turn.handoff is None:
                raise ValueError(f"dialogue {one.id!r}, turn {number}: it has no handoff label to evaluate against")
    return dialogues


def _choose(dialogues: list[Dialogue], name: str | None) -> Dialogue:
    if name is not None:
        found = next((one for one in dialogues if one.id == name), None)
        if found is None:
            raise ValueError(f"there is no dialogue {name!r} in the file")
        return found
    if not dialogues:
        raise ValueError("there is no dialogue in the file")
    return next((one for one in dialogues if any(turn.handoff for turn in one.turns)), dialogues[0])


def _stdin() -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"standard input, line {number}: not JSON in UTF-8: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"standard input, line {number}: expected an object, got {type(row).__name__}")
        yield f"standard input, line {number}", row
