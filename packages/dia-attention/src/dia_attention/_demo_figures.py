"""The demo's two figures of trainings, drawn from what report.json and the trainings' metrics.jsonl hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sail_core.report import figure_style, paired_interval
from torch import Tensor

from ._protocol import Protocol
from .plots._figure import colours, key, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TOP = 3.5  # of the loss axis; guessing is 2.3


def accuracies(table: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> Figure:
    """Test accuracy of every seed, and paired differences to the first reference with 95 % intervals.

    A column for each condition; a single condition has its two panels side by side.
    """
    names = list(dict.fromkeys(network for rows in table.values() for network in rows))
    shade = colours(names)
    with figure_style():
        height = 0.34 * len(names)
        alone = len(table) == 1
        figure = new_figure(9.0, height + 1.2) if alone else new_figure(3.1 * len(table) + 1.0, 2 * height + 2.2)
        axes = figure.subplots(1 if alone else 2, 2 if alone else len(table), squeeze=False, sharey=True)
        axes = axes.T if alone else axes
        for column, (condition, rows) in enumerate(table.items()):
            upper, lower = axes[:, column]
            reference = protocol.conditions[condition].references[0]
            for network, row in rows.items():
                place, values = names.index(network), [100 * value for value in row["test"]]
                upper.scatter(values, [place] * len(values), color=shade[network], s=16, alpha=0.55, linewidths=0)
                upper.plot([sum(values) / len(values)], [place], "|", color=shade[network], markersize=14)
                upper.annotate(
                    f"{sum(values) / len(values):.1f}",
                    (1.0, place),
                    xycoords=("axes fraction", "data"),
                    ha="left",
                    va="center",
                    fontsize=9,
                )
                if network == reference:
                    continue
                pairs = zip(row["test"], rows[reference]["test"], strict=True)
                found = paired_interval([100 * (ours - theirs) for ours, theirs in pairs])
                lower.plot([found.low, found.high], [place, place], color=shade[network], linewidth=2.2)
                lower.plot([found.mean], [place], "s", color=shade[network], markersize=5)
                lower.annotate(
                    f"{found.mean:+.1f}",
                    (1.0, place),
                    xycoords=("axes fraction", "data"),
                    ha="left",
                    va="center",
                    fontsize=9,
                )
            for axis, least in ((upper, 5.0), (lower, 2.0)):  # points: what is level must look level
                low, high = axis.get_xlim()
                if high - low < least:
                    axis.set_xlim((low + high - least) / 2, (low + high + least) / 2)
            upper.set_title(protocol.conditions[condition].title, fontsize=11)
            upper.set_xlabel("test accuracy, %")
            lower.set_xlabel(f"difference to {reference}, points")
            lower.axvline(0, color="0.5", linewidth=1)
        for axis in axes[:, 0]:
            axis.set_yticks(range(len(names)), names)
        for axis in axes.flat:
            axis.tick_params(left=False)
            axis.set_ylim(len(names) - 0.5, -0.5)
    return figure


def curves(runs: Sequence[tuple[str, str, Path, int | None]]) -> Figure:
    """Training loss: the median of the seeds that stayed finite, a cross where one did not.

    Args:
        runs: For each training its condition, its network, its metrics.jsonl and its first non-finite step or None.
    """
    conditions = list(dict.fromkeys(condition for condition, *_ in runs))
    names = list(dict.fromkeys(network for _, network, *_ in runs))
    shade = colours(names)
    with figure_style():
        figure = new_figure(max(9.0, 2.9 * len(conditions) + 0.6), 3.6)
        axes = figure.subplots(1, len(conditions), sharey=True, squeeze=False)
        for axis, condition in zip(axes[0], conditions, strict=True):
            for network, colour in shade.items():
                found = [
                    (_smooth(_losses(path)), broken)
                    for one, other, path, broken in runs
                    if (one, other) == (condition, network)
                ]
                for loss, broken in found:
                    axis.plot(range(1, len(loss) + 1), loss, color=colour, alpha=0.15, linewidth=0.6)
                    if broken is not None:
                        axis.plot([broken], [_TOP], "x", color=colour, markersize=8, clip_on=False)
                whole = [loss for loss, broken in found if broken is None]
                if whole:
                    median = torch.stack(whole).median(0).values
                    axis.plot(range(1, len(median) + 1), median, color=colour, linewidth=1.7)
            axis.set_title(condition.replace("-", " "))
            axis.set_xlabel("step")
            axis.axhline(2.3026, color="0.6", linestyle=":", linewidth=1)
        axes[0, 0].set_ylim(0, _TOP)
        axes[0, 0].set_ylabel("training loss, nats")
        handles = [key(color=colour, linewidth=2) for colour in shade.values()]
        handles += [key(color="0.6", linestyle=":"), key(color="0.3", marker="x", linestyle="")]
        labels = [*names, "guessing, ln 10", "first non-finite loss"]
        figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(labels) // 2), fontsize=9)
    return figure


def _losses(path: Path) -> Tensor:
    """The finite losses of a metrics.jsonl, in the order of the steps."""
    losses = [json.loads(line)["loss"] for line in path.read_text().splitlines()]
    return torch.tensor([loss for loss in losses if isinstance(loss, float)])


def _smooth(losses: Tensor, width: int = 9) -> Tensor:
    """A centred running mean of at most `width` steps."""
    if len(losses) < 2:
        return losses
    half = width // 2
    return torch.stack([losses[max(0, at - half) : at + half + 1].mean() for at in range(len(losses))])
