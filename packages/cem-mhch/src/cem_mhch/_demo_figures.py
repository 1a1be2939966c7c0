"""The demo's figures of models and of costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sail_core.report import figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"host": "#E69F00", "host+CEM": "#0072B2"}  # Okabe and Ito's orange and blue; baselines are grey
_PANELS = {"macro_f1": "macro-F1", "auc": "AUC", "gt1": "GT-I", "error_cost": "handoffs of normal turns"}


def scores(table: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Every model under four metrics: a dot a seed, the mean as a bar.

    Args:
        table: For each model its reports, one a seed.
    """
    names = list(table)
    with figure_style():
        figure = _figure((10, 0.8 + 0.38 * len(names)))
        axes = figure.subplots(1, len(_PANELS), sharey=True)
        for axis, (metric, title) in zip(axes, _PANELS.items(), strict=True):
            for row, name in enumerate(names):
                values = [one[metric] for one in table[name] if one[metric] is not None]
                colour = _COLOURS.get(name, "0.65")
                axis.barh(row, np.mean(values), color=colour, alpha=0.55, height=0.6)
                axis.plot(values, [row] * len(values), "o", color=colour, markeredgecolor="black", markersize=4)
            axis.set_title(title)
            axis.tick_params(left=False)
            if metric != "error_cost":
                axis.set_xlim(0, 1)
        axes[0].set_yticks(range(len(names)), [{"tfidf": "TF-IDF + LR"}.get(name, name) for name in names])
        axes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def costs(found: Mapping[str, Sequence[float]]) -> Figure:
    """Errors of the estimated cost of a turn, log by log, with the mean and its 95 % interval.

    Args:
        found: `truth`, and the estimates of each estimator, one a log.
    """
    names = {
        "naive": "naive: turns on which\nboth policies agree",
        "ips": "IPS",
        "snips": "SNIPS",
        "dr": "doubly robust",
    }
    with figure_style():
        figure = _figure((7.5, 2.9))
        axis = figure.subplots()
        for row, name in enumerate(names):
            errors = np.subtract(found[name], found["truth"])
            spread = np.linspace(-0.25, 0.25, len(errors))
            axis.plot(errors, row + spread, "o", color="#0072B2" if name == "dr" else "0.55", markersize=3.5, alpha=0.8)
            reach = 1.96 * errors.std(ddof=1) / len(errors) ** 0.5
            axis.errorbar(errors.mean(), row, xerr=reach, fmt="D", color="black", capsize=4, markersize=5, zorder=3)
        axis.axvline(0, color="#D55E00", linewidth=1.2)
        axis.set_yticks(range(len(names)), list(names.values()))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.tick_params(left=False)
        axis.set_xlabel(f"estimate - truth, cost of a turn (the truth is {np.mean(found['truth']):.2f} on average)")
    return figure


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size)
