"""The figures of the toy world."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sur_adapter import plots

from ._experiment import Result, adapter_of, base_of
from ._protocol import Protocol
from ._summary import ADAPTER, Found, Row
from ._world import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracy(rows: Mapping[str, Row]) -> "Figure":
    """Bars of every suite and system, with a dot for each seed."""
    return plots.accuracy_bars(
        {suite: row.values for suite, row in rows.items()}, chance={suite: row.chance for suite, row in rows.items()}
    )


def grid(protocol: Protocol, kind: Kind, seed: int, results: Mapping[str, Result], *, each: int = 2) -> "Figure":
    """The first prompts of every suite and what every system draws."""
    rows = []
    checks = protocol.checks(kind, seed)
    first = next(iter(checks.values()))
    texts = {"complex": [one.complex for one in first]}
    texts |= {suite: [one.narrative for one in prompts] for suite, prompts in checks.items()}
    for suite, several in texts.items():
        for at in range(each):
            pictures = [result.check.pictures[suite][at] for result in results.values()]
            rows.append((f"{suite}: {several[at]}", pictures))
    return plots.picture_grid(rows, list(results), edge=0.8)


def losses(result: Result) -> "Figure":
    """The loss curves of one training."""
    return plots.loss_curves({name: values for name, values in result.curves.items() if name != "loss"})


def drift(protocol: Protocol, kind: Kind, seed: int, out: Path) -> "Figure":
    """How far the adapter moves each token, for keyword prompts and sentences."""
    world, adapter = base_of(protocol, kind, seed, out), adapter_of(out, ADAPTER)
    several = [prompts[0] for prompts in protocol.checks(kind, seed).values()]
    texts = [several[0].complex, *(one.narrative for one in several)]
    before = world.encode(texts)
    with torch.no_grad():
        after = adapter(before)
    drifts = (after - before).norm(dim=-1) / before.norm(dim=-1)
    rows = []
    for text, values in zip(texts, drifts, strict=True):
        tokens = ["(start)", *re.findall(r"[a-z0-9]+|,", text), "(end)"]
        rows.append((tokens, values[: len(tokens)]))
    return plots.token_drift(rows)


def all_figures(protocol: Protocol, found: Found, rows: Mapping[str, Row], out: Path) -> dict[str, "Figure"]:
    """By name, the figures of a run; where several seeds are there, the first is shown."""
    figures = {"accuracy": accuracy(rows)}
    for kind in protocol.worlds:
        seed = next(number for one, number in found if one == kind)
        results, folder = found[kind, seed], out / f"{kind}-{seed}"
        suffix = "" if kind == "digits" else f"-{kind}"
        figures[f"grid{suffix}"] = grid(protocol, kind, seed, results)
        figures[f"losses{suffix}"] = losses(results[ADAPTER])
        figures[f"drift{suffix}"] = drift(protocol, kind, seed, folder)
    return figures
