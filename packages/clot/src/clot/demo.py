"""The main job in one command: a tiny vision-language model learns to describe, to joke, and from its own jokes."""

import math
import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from oogiri_go.runs import Report, Verdict, needs
from tqdm import tqdm  # type: ignore[import-untyped]

from . import _evaluation_figures as figures
from . import _funnel_figures
from ._demo_run import Profile, load_torch, make_base, run_seed

_STAGES = ("base", "AIT", "CLoT")
_T = {1: 12.706, 2: 4.303}  # two-sided 95 % quantiles of Student's t by degrees of freedom


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Build a tiny Qwen2.5-VL, teach it to describe, tune it on jokes, let it refine itself, evaluate."""

    out: Path = Path("runs/demo/clot")
    """Receives trainings, ledgers, evaluations, report.json and the figures; started again, the demo goes on."""
    seed: int = 0
    """The first seed; the full profile takes three from it on."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Such a model is no faster on a GPU: auto is the CPU."""
    full: bool = False
    """Three seeds and longer trainings."""


def demo(config: DemoConfig) -> None:
    """Run the method from end to end without a download, and write report.json and figures.

    Raises:
        MissingExtra: The extra demo is not installed.
    """
    from . import __version__

    with needs("sail-clot", "demo"):  # now, not after the work
        for name in ("matplotlib", "accelerate", "peft", "sail_core", "torchvision", "transformers"):
            if find_spec(name) is None:  # what is there is imported later, by the processes that work
                import_module(name)
    device = "cuda" if config.device == "cuda" else "cpu"
    name = "full" if config.full else "default"
    protocol = Path(__file__).with_name("protocols") / f"{name}.json"
    profile = Profile.read(protocol)
    seeds = range(config.seed, config.seed + profile.seeds)
    report = Report("sail-clot", __version__, seed=config.seed, profile=name, device=device, protocol=protocol)
    runs = _run(config.out, profile, seeds, device)
    report.metrics |= {f"seed {one['seed']}": _numbers(one) for one in runs}
    report.metrics["examples"] = [one for run in runs for one in run["examples"]][:6]
    report.verdicts += [verdict for one in runs for verdict in _verdicts(one)]
    report.verdicts += _over_seeds(runs)
    _draw(report, runs)
    report.write(config.out)
    _print(report, runs)


def _run(out: Path, profile: Profile, seeds: Sequence[int], device: str) -> list[dict[str, Any]]:
    """Run the seeds beside each other, one thread each; what they share is made first."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = out / f"base-{profile.base}"
    with (
        ProcessPoolExecutor(min(2, len(seeds)), multiprocessing.get_context("spawn")) as pool,
        tqdm(total=1 + len(seeds), desc="demo", unit="part", disable=None) as bar,
    ):
        if len(seeds) > 1:
            pool.submit(load_torch)  # the other process gets ready meanwhile
        made = pool.submit(make_base, folder, profile, device)
        import matplotlib.figure  # noqa: F401  this process has nothing else to do

        base = made.result()
        bar.update()
        waiting: list[Future[dict[str, Any]]] = [
            pool.submit(run_seed, out / f"seed-{seed}", base, seed, profile, device) for seed in seeds
        ]
        found = []
        for one in waiting:
            found.append(one.result())
            bar.update()
    return found


def _numbers(run: dict[str, Any]) -> dict[str, Any]:
    """What stands in the table of a seed."""
    found: dict[str, Any] = {}
    for name in _STAGES:
        stage = run["stages"][name]
        for task in ("2T1", "3T1"):
            found[f"{name} content {task}"] = stage["tasks"][task]["accuracy"]
            found[f"{name} content {task}, pictures swapped"] = stage["control"][task]["accuracy"]
        found[f"{name} rank, normalised NDCG"] = stage["tasks"]["rank"]["normalised_ndcg"]
    found["CLoT PMI 3T1"] = run["pmi"]["tasks"]["3T1"]["accuracy"]
    found["CLoT PMI 3T1, pictures swapped"] = run["pmi"]["control"]["3T1"]["accuracy"]
    found["CLoT letter 3T1"] = run["letters"]["tasks"]["3T1"]["accuracy"]
    found["questions"] = run["stages"]["CLoT"]["tasks"]["3T1"]["questions"]
    summary = run["rounds"][0]
    found["held-out discrimination"] = summary["discrimination"]["accuracy"]
    found["candidates"] = summary["steps"]["planned"]
    found["kept"] = summary["steps"]["kept"]
    found["conditions used"] = f"{summary['conditions used']} of {summary['conditions asked']}"
    return found


def _verdicts(run: dict[str, Any]) -> list[Verdict]:
    one = run["stages"]["CLoT"]["tasks"]["3T1"]
    low, high = one["interval"]
    goal = one["chance"] + 0.35
    before = run["stages"]["base"]["tasks"]["3T1"]
    held = run["rounds"][0]["discrimination"]
    seed = f"seed {run['seed']}: "
    return [
        Verdict(
            f"{seed}content 3T1 after CLoT is at least chance + 0.35, its lower bound above chance",
            f">= {goal:.3f}",
            one["accuracy"],
            (low, high),
            one["accuracy"] >= goal and low > one["chance"],
        ),
        Verdict(
            f"{seed}the base, which only describes, is not above chance",
            f"<= {before['chance']:.3f}",
            before["accuracy"],
            tuple(before["interval"]),
            _decided(before["interval"], before["chance"], below=True),
        ),
        Verdict(
            f"{seed}held-out discrimination is above chance (clot refine stops otherwise, the demo goes on)",
            f"> {held['chance']:.3f}",
            held["accuracy"],
            (held["interval"][0], held["interval"][1]),
            _decided(held["interval"], held["chance"], below=False),
        ),
        Verdict(
            f"{seed}after a crash, ledger and kept set are those of an uninterrupted run",
            "the same bytes",
            float(run["same after the crash"]),
            None,
            run["same after the crash"],
        ),
    ]


def _decided(interval: Sequence[float], value: float, *, below: bool) -> bool | None:
    """Whether the interval lies on the claimed side of a value; None where it holds the value."""
    if interval[0] <= value <= interval[1]:
        return None
    return (interval[1] < value) == below


def _over_seeds(runs: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Differences within a seed, with paired Student-t intervals where there are several seeds."""
    claims: dict[str, Callable[[dict[str, Any]], float]] = {
        "content 3T1: AIT above the base": lambda run: _accuracy(run, "AIT") - _accuracy(run, "base"),
        "content 3T1: CLoT above AIT": lambda run: _accuracy(run, "CLoT") - _accuracy(run, "AIT"),
        "content 3T1 after CLoT: the right picture above a swapped one": (
            lambda run: _accuracy(run, "CLoT") - run["stages"]["CLoT"]["control"]["3T1"]["accuracy"]
        ),
    }
    found = []
    for claim, difference in claims.items():
        values = [difference(run) for run in runs]
        mean, interval = statistics.fmean(values), None
        if len(values) > 1:
            half = _T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
            interval = mean - half, mean + half
        holds = None if interval is None else _decided(interval, 0.0, below=False)
        found.append(Verdict(claim, "> 0", mean, interval, holds))
    return found


def _accuracy(run: dict[str, Any], stage: str) -> float:
    return float(run["stages"][stage]["tasks"]["3T1"]["accuracy"])


def _draw(report: Report, runs: Sequence[dict[str, Any]]) -> None:
    first = runs[0]
    report.add_figure(_funnel_figures.stages([run["stages"] for run in runs]), "stages")
    report.add_figure(_funnel_figures.funnel(first["rounds"]), "funnel")
    report.add_figure(_funnel_figures.losses(first["losses"]), "losses")
    letters = first["letters"] | {"rows": first["letter rows"]}
    for name, made in (
        ("orders", figures.orders(first["stages"])),
        ("letters", figures.letters("letters", letters)),
        ("reliability", figures.reliability("letters", letters)),
    ):
        if made is not None:
            report.add_figure(made, name)


def _print(report: Report, runs: Sequence[dict[str, Any]]) -> None:
    """A table with a column for each seed, the verdicts, and what the model says."""
    numbers = [_numbers(one) for one in runs]
    width = max(map(len, numbers[0]))
    print(f"{'':{width}}  " + "  ".join(f"{'seed ' + str(one['seed']):>10}" for one in runs))
    for name in numbers[0]:
        cells = [f"{one[name]:.3f}" if isinstance(one[name], float) else str(one[name]) for one in numbers]
        print(f"{name:{width}}  " + "  ".join(f"{cell:>10}" for cell in cells))
    whole, report.metrics = report.metrics, {}
    print(f"\n{report.table()}\n")
    report.metrics = whole
    for one in whole["examples"]:
        print(f"{one['picture']:22} the model: {one['answer']}")
