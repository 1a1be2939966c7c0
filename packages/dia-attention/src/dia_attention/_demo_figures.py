"""The demo's four figures, drawn from what report.json and the trainings' metrics.jsonl hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sail_core.report import figure_style
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_COLOURS = {"plain": "#D55E00", "DIA": "#0072B2"}  # Okabe and Ito's vermilion and blue
_TOP = 3.5  # of the loss axis; guessing is 2.3
_STAGE_COLOURS = ("#56B4E9", "#009E73", "#CC79A7")
_MARKS = {"plain": "o", "DIA": "D"}


def accuracies(table: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Test accuracy of every seed, pairs joined, beside the paired differences with their 95 % intervals."""
    with figure_style():
        figure = _figure((9, 0.9 + 0.8 * len(table)))
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
        for row, cell in enumerate(table.values()):
            values = {network: [100 * value for value in cell[network]["test"]] for network in _COLOURS}
            count = len(values["plain"])
            places = [row + (index - (count - 1) / 2) * 0.5 / max(1, count - 1) for index in range(count)]
            for place, plain, dia in zip(places, values["plain"], values["DIA"], strict=True):
                left.plot([plain, dia], [place, place], color="0.75", linewidth=1, zorder=1)
            for network, colour in _COLOURS.items():
                left.scatter(values[network], places, color=colour, marker=_MARKS[network], s=22, zorder=2)
            found = cell["verdict"]
            mean, (low, high) = 100 * found.measured, (100 * end for end in found.interval)
            right.plot([low, high], [row, row], color="0.2", linewidth=2)
            right.plot([mean], [row], "s", color="0.2")
            right.annotate(
                f"{mean:+.2f}  [{low:+.2f}, {high:+.2f}]",
                (mean, row),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
                fontsize="small",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
        left.set_yticks(range(len(table)), [name.replace("-", " ") for name in table])
        left.set_ylim(len(table) - 0.5, -0.6)
        left.set_xlabel("test accuracy, % (a pair of points is one seed)")
        left.axvline(10, color="0.6", linestyle=":", linewidth=1)
        left.set_xlim(5, 102)
        right.axvline(0, color="0.6", linewidth=1)
        right.margins(x=0.15)
        right.tick_params(left=False)
        right.set_xlabel("DIA - plain, points (95 % interval)")
        handles = [_key(color=colour, marker=_MARKS[name], linestyle="") for name, colour in _COLOURS.items()]
        handles.append(_key(color="0.6", linestyle=":"))
        figure.legend(handles, [*_COLOURS, "chance"], loc="outside upper center", ncols=3, frameon=False)
    return figure


def curves(runs: Sequence[tuple[str, str, Path, int | None]]) -> Figure:
    """Training loss of every seed, the median of those that stayed finite, a cross where one did not.

    Args:
        runs: For each training its condition, its network, its metrics.jsonl and its first non-finite step or None.
    """
    conditions = list(dict.fromkeys(condition for condition, *_ in runs))
    with figure_style():
        figure = _figure((2.4 * len(conditions) + 0.6, 3.0))
        axes = figure.subplots(1, len(conditions), sharey=True, squeeze=False)
        for axis, condition in zip(axes[0], conditions, strict=True):
            for network, colour in _COLOURS.items():
                found = [
                    (_smooth(_losses(path)), broken)
                    for one, other, path, broken in runs
                    if (one, other) == (condition, network)
                ]
                for loss, broken in found:
                    axis.plot(range(1, len(loss) + 1), loss, color=colour, alpha=0.3, linewidth=0.8)
                    if broken is not None:
                        axis.plot([broken], [_TOP], "x", color=colour, markersize=8, clip_on=False)
                whole = [loss for loss, broken in found if broken is None]
                if whole:
                    median = torch.stack(whole).median(0).values
                    axis.plot(range(1, len(median) + 1), median, color=colour, linewidth=2)
            axis.set_title(condition.replace("-", " "))
            axis.set_xlabel("step")
            axis.axhline(2.3026, color="0.6", linestyle=":", linewidth=1)
        axes[0, 0].set_ylim(0, _TOP)
        axes[0, 0].set_ylabel("training loss, nats")
        handles = [_key(color=colour, linewidth=2) for colour in _COLOURS.values()]
        handles += [_key(color="0.6", linestyle=":"), _key(color="0.3", marker="x", linestyle="")]
        names = [*_COLOURS, "guessing, ln 10", "first non-finite loss"]
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def correlations(stages: Mapping[str, Tensor]) -> Figure:
    """Correlation between the gates of the blocks of each stage: one `(L, L)` matrix and its mean over pairs."""
    with figure_style():
        figure = _figure((2.7 * len(stages) + 0.9, 3.0))
        axes = figure.subplots(1, len(stages), squeeze=False)
        for axis, (stage, matrix) in zip(axes[0], stages.items(), strict=True):
            image = axis.imshow(matrix.tolist(), vmin=-1, vmax=1, cmap="RdBu_r")
            for row, values in enumerate(matrix.tolist()):
                for column, value in enumerate(values):
                    colour = "white" if abs(value) > 0.6 else "black"
                    axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize="small")
            pairs = [value for row, values in enumerate(matrix.tolist()) for value in values[:row]]
            axis.set_title(f"{stage}: mean {sum(pairs) / max(1, len(pairs)):.2f}")
            axis.set_xticks(range(len(matrix)), range(1, len(matrix) + 1))
            axis.set_yticks(range(len(matrix)), range(1, len(matrix) + 1))
            axis.set_xlabel("block")
            axis.grid(visible=False)
        axes[0, 0].set_ylabel("block")
        figure.colorbar(image, ax=axes[0].tolist(), label="Pearson correlation", shrink=0.85)
    return figure


def depth(gates: Mapping[str, Tensor], gradients: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Left: distribution of the trained gates in every block. Right: gradient norm by depth before training."""
    with figure_style():
        figure = _figure((9, 3.7))
        left, right = figure.subplots(1, 2)
        stages = list(dict.fromkeys(path.rsplit(".", 1)[0] for path in gates))
        shades = dict(zip(stages, _STAGE_COLOURS * len(stages), strict=False))
        for place, (path, gate) in enumerate(gates.items(), start=1):
            parts = left.violinplot(gate.flatten().tolist(), [place], widths=0.85, showmedians=True, showextrema=False)
            for body in parts["bodies"]:
                body.set(facecolor=shades[path.rsplit(".", 1)[0]], alpha=0.8)
            parts["cmedians"].set(color="black", linewidth=1)
        left.set_xticks(range(1, len(gates) + 1), [path.removeprefix("layer") for path in gates])
        left.axhline(0.25, color="0.6", linestyle=":", linewidth=1)
        left.set_ylim(bottom=0)
        left.set_xlabel("block (stage.block)")
        left.set_ylabel("gate of DIA after training")
        styles: tuple[Any, ...] = ("-", "--", ":", "-.")
        for style, networks in zip(styles, gradients.values(), strict=False):
            for network, norms in networks.items():
                right.plot(range(1, len(norms) + 1), norms, style, color=_COLOURS[network], linewidth=1.4)
        right.set_yscale("log")
        right.set_xlabel("convolution, from the input")
        right.set_ylabel("gradient norm before training")
        handles = [_key(color=colour) for colour in _COLOURS.values()]
        handles += [_key(color="0.3", linestyle=style) for style, _ in zip(styles, gradients, strict=False)]
        names = [*_COLOURS, *(condition.replace("-", " ") for condition in gradients)]
        handles.insert(0, _key(color="0.6", linestyle=":"))
        names.insert(0, "gate at the start")
        figure.legend(handles, names, fontsize="small", loc="outside lower center", ncols=len(names))
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


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size)


def _key(**style: Any) -> Line2D:
    """An entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **style)
