"""`clot report`: evaluations and refinements side by side, as report.json, figures and a table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oogiri_go.runs import Report, Verdict, needs

from . import _evaluation_figures as figures
from . import _funnel_figures
from .metrics import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

try:
    _VERSION = version("sail-clot")
except PackageNotFoundError:
    _VERSION = "0+source"


_EVALUATED = ("tasks", "control", "cloud", "average", "skipped")
_COMPLETED = ("asd", "interval", "random", "best", "worst", "best_rate", "parse_rate", "items")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Put evaluations, refinements and word lists side by side.

    Attributes:
        runs: Folders that evaluate, refine or dat wrote; a run is named by its folder.
        out: Folder for report.json and the figures.
        plots: Draw figures (extra demo).
        json: Print one line of JSON.
    """

    runs: tuple[Path, ...]
    out: Path = Path("report")
    plots: bool = True
    json: bool = False


def run_report(config: ReportConfig) -> None:
    """Read the runs and write the report."""
    evaluations, refinements = _read(config.runs)
    seed = next((one["seed"] for one in evaluations.values() if "seed" in one), 0)
    report = Report("sail-clot", _VERSION, seed=seed, profile="report", device="none")
    for name, one in evaluations.items():
        report.metrics[name] = {key: one[key] for key in (*_EVALUATED, *_COMPLETED) if one.get(key) is not None}
        report.verdicts += _verdicts(name, one)
    for name, rounds in refinements.items():
        report.metrics[name] = {f"round {one['round']}": one for one in rounds}
    if config.plots:
        _draw(report, evaluations, refinements)
    path = report.write(config.out)
    if config.json:
        print(json.dumps({"path": str(path), "runs": [*evaluations, *refinements], "verdicts": len(report.verdicts)}))
    else:
        print(report.table())


def _read(runs: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    if not runs:
        raise ValueError("there is no run; name folders that evaluate or refine wrote")
    evaluations: dict[str, Any] = {}
    refinements: dict[str, list[dict[str, Any]]] = {}
    for folder in runs:
        name = folder.resolve().name
        if name in evaluations or name in refinements:
            raise ValueError(f"two runs are named {name!r}; rename a folder")
        rounds = sorted(folder.glob("round-*/summary.json"), key=lambda path: int(path.parent.name[6:]))
        try:
            found = next((folder / one for one in ("evaluation.json", "dat.json") if (folder / one).is_file()), None)
            if found is not None:
                evaluations[name] = json.loads(found.read_text(encoding="utf-8"))
            elif rounds:
                refinements[name] = [json.loads(path.read_text(encoding="utf-8")) for path in rounds]
            else:
                raise FileNotFoundError(
                    f"the folder {str(folder)!r} has no evaluation.json, no dat.json and no finished round"
                )
        except json.JSONDecodeError as error:
            raise ValueError(f"a file of the run {name!r} is not JSON: {error}") from None
    return evaluations, refinements


def _verdicts(name: str, data: Mapping[str, Any]) -> list[Verdict]:
    """For each task, whether the run is above chance, decided by its interval."""
    found = []
    for task, one in data.get("tasks", {}).items():
        if "accuracy" in one:
            what, value, interval, chance = "accuracy", one["accuracy"], one["interval"], one["chance"]
        else:
            what, value, interval, chance = "normalised NDCG", one["normalised_ndcg"], one["normalised_interval"], 0.0
        holds = None
        if interval is not None:
            holds = True if interval[0] > chance else False if interval[1] < chance else None
        between = None if interval is None else (float(interval[0]), float(interval[1]))
        found.append(Verdict(f"{name}, {task}: {what} above chance", f"> {chance:.3g}", value, between, holds))
    if data.get("chosen"):
        gains = [one - sum(row) / len(row) for one, row in zip(data["chosen"], data["offered"], strict=True)]
        between = mean_interval(gains)
        holds = None if between is None else True if between[0] > 0 else False if between[1] < 0 else None
        claim = f"{name}: chosen words are further away than drawn ones, by so much"
        found.append(Verdict(claim, "> 0", sum(gains) / len(gains), between, holds))
    return found


def _draw(report: Report, evaluations: Mapping[str, Any], refinements: Mapping[str, list[dict[str, Any]]]) -> None:
    with needs("sail-clot", "demo"):
        import matplotlib  # noqa: F401 - so that its absence names our extra
    drawn: list[tuple[str, Figure | None]] = [
        ("accuracy", figures.accuracies(evaluations)),
        ("orders", figures.orders(evaluations)),
    ]
    kinds = {
        "cells": figures.cells,
        "letters": figures.letters,
        "reliability": figures.reliability,
        "distances": figures.distances,
    }
    for name, data in evaluations.items():
        for kind, draw in kinds.items():
            drawn.append((f"{kind}-{_file(name)}", draw(name, data)))
    for name, rounds in refinements.items():
        drawn.append((f"funnel-{_file(name)}", _funnel_figures.funnel(rounds)))
        drawn.append((f"rounds-{_file(name)}", _funnel_figures.rounds(rounds)))
    for name, fig in drawn:
        if fig is not None:
            report.add_figure(fig, name)


def _file(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in name)
