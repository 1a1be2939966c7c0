"""Figures over many dialogues: reliability, and cost against recall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sail_core.extras import needs
from sail_core.report import figure_style

from cem_mhch._cost import CostModel
from cem_mhch.metrics import calibration_error, cost_recall_curve, reliability
from cem_mhch.metrics._inputs import Labels, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = "osD^vP*X"


def draw_reliability(labels: Labels, scores: Mapping[str, Scores], *, bins: int = 10) -> Figure:
    """Frequency of transferable turns against their mean probability, a line for each model.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        scores: By the name of the model, the same for probabilities of a handoff.
        bins: Number of bins, at least 1.

    Raises:
        ValueError: As `metrics.reliability`.
        MissingExtra: matplotlib is not installed (extra `demo`).
    """
    with needs("cem-mhch", "demo"):
        from matplotlib.figure import Figure
    with figure_style():
        figure = Figure(figsize=(5.4, 4.6))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], "--", color="0.5", linewidth=1)
        for number, (name, given) in enumerate(scores.items()):
            rows = reliability(labels, given, bins=bins)
            error = calibration_error(labels, given, bins=bins)
            axes.plot(
                [row.probability for row in rows],
                [row.frequency for row in rows],
                marker=_MARKS[number % len(_MARKS)],
                label=f"{name} (ECE {error:.3f})",
            )
        axes.set(
            xlabel="predicted probability of a handoff", ylabel="share that is transferable", xlim=(0, 1), ylim=(0, 1)
        )
        axes.legend(loc="upper left")
        return figure


def draw_cost_recall(labels: Labels, scores: Mapping[str, Scores], *, cost: CostModel | None = None) -> Figure:
    """Mean cost of a dialogue against the recall of transferable turns, over all thresholds.

    Args:
        labels: For each dialogue its turns' gold labels, 0 or 1.
        scores: By the name of the model, the same for scores of a handoff.
        cost: The cost matrix; None counts false handoffs.

    Raises:
        ValueError: As `metrics.cost_recall_curve`.
        MissingExtra: matplotlib is not installed (extra `demo`).
    """
    with needs("cem-mhch", "demo"):
        from matplotlib.figure import Figure
    with figure_style():
        figure = Figure()
        axes = figure.subplots()
        for name, given in scores.items():
            curve = cost_recall_curve(labels, given, cost=cost)
            lines = axes.plot([point.recall for point in curve], [point.cost for point in curve], label=name)
            best = min(curve, key=lambda point: point.cost)
            axes.plot([best.recall], [best.cost], "o", color=lines[0].get_color(), markersize=5)
        axes.set(xlabel="recall of transferable turns", ylabel="cost of a dialogue", xlim=(0, 1.02), ylim=(0, None))
        axes.set_title("A dot marks the cheapest threshold", loc="left", fontsize=10)
        axes.legend()
        return figure
