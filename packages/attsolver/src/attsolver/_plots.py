"""Figures of a comparison, each with its numbers as CSV beside it."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sail_core.extras import needs

from ._fit import FitReport
from ._work_precision import WorkPoint
from .systems import System

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Table = tuple[list[str], list[list[Any]]]
_MARKERS = "osD^v<>PX*"


def trajectories(system: System, t: Array, reference: Array, found: Mapping[str, Array]) -> "tuple[Figure, Table]":
    """Components of one trajectory against time; the reference dashed.

    Args:
        system: Names and units of the components; at most four are drawn.
        t: Times (T,).
        reference: States (T, d).
        found: States (T, d) by method.
    """
    figure, axes = _figure(min(4, system.dim), shape=(2, 2) if system.dim >= 3 else (1, min(2, system.dim)))
    for i, ax in enumerate(axes):
        for name, y in found.items():
            ax.plot(t, y[:, i], label=name)
        ax.plot(t, reference[:, i], "k--", lw=1, label="reference")
        ax.set(xlabel="time", ylabel=f"{system.states[i]} [{system.units[i]}]")
    _legend_above(figure, axes[0])
    names = ["t", *(f"{m} {s}" for m in ("reference", *found) for s in system.states)]
    return figure, (names, np.column_stack([t, reference, *found.values()]).tolist())


def phase_portrait(system: System, reference: Array, found: Mapping[str, Array]) -> "tuple[Figure, Table]":
    """The first two components against each other, one trajectory; the reference dashed."""
    figure, (ax,) = _figure(1)
    for name, y in found.items():
        ax.plot(y[:, 0], y[:, 1], lw=1, label=name)
    ax.plot(reference[:, 0], reference[:, 1], "k--", lw=1, label="reference")
    ax.set(xlabel=f"{system.states[0]} [{system.units[0]}]", ylabel=f"{system.states[1]} [{system.units[1]}]")
    _legend_above(figure, ax)
    names = [f"{m} {s}" for m in ("reference", *found) for s in system.states[:2]]
    return figure, (names, np.column_stack([y[:, :2] for y in (reference, *found.values())]).tolist())


def error_in_time(t: Array, errors: Mapping[str, Array]) -> "tuple[Figure, Table]":
    """Error of the state against time: median and 10 to 90 % of the trajectories, errors of shape (n, T)."""
    figure, (ax,) = _figure(1)
    rows: list[list[Any]] = []
    for name, error in errors.items():
        low, middle, high = np.quantile(error[:, 1:], (0.1, 0.5, 0.9), axis=0)
        (line,) = ax.plot(t[1:], middle, label=name)
        ax.fill_between(t[1:], low, high, alpha=0.2, color=line.get_color(), lw=0)
        rows += [[name, *row] for row in zip(t[1:].tolist(), low, middle, high, strict=True)]
    ax.set(yscale="log", xlabel="time", ylabel="distance from the reference")
    _legend_above(figure, ax)
    return figure, (["method", "t", "p10", "median", "p90"], rows)


def work_precision_curves(points: Sequence[WorkPoint]) -> "tuple[Figure, Table]":
    """Time against error, one panel for each batch size, and evaluations of f against error in the last."""
    batches = sorted({p.batch for p in points})
    names = list(dict.fromkeys(p.method for p in points))
    figure, axes = _figure(len(batches) + 1, shape=(1, len(batches) + 1), width=4.2)
    for ax, batch in zip(axes, [*batches, None], strict=True):
        for i, name in enumerate(names):
            chosen = [p for p in points if p.method == name and p.batch == (batches[0] if batch is None else batch)]
            costs = [(p.nfev or 0.0) if batch is None else p.microseconds for p in chosen]
            pairs = sorted((cost, p.rmse) for cost, p in zip(costs, chosen, strict=True) if cost and p.rmse > 0)
            if not pairs:
                continue
            style = "--" if ":" in name else "-"
            y, x = zip(*pairs, strict=True)
            ax.plot(x, y, style, marker=_MARKERS[i % len(_MARKERS)], ms=4, lw=1.2, color=f"C{i % 8}", label=name)
        ax.set(xscale="log", yscale="log", xlabel="relative RMS error")
        ax.set_title("evaluations of f" if batch is None else f"batch {batch}")
        ax.set_ylabel("per trajectory" if batch is None else "µs per trajectory")
    _slope_guide(axes[-1], 4)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    columns = ["method", "batch", "dt", "rtol", "rmse", "mse", "nfev", "microseconds"]
    return figure, (columns, [[getattr(p, c) for c in columns] for p in points])


def _slope_guide(ax: Any, order: int) -> None:
    """A grey line of the slope that a method of this order has: evaluations as error^(-1/order)."""
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    middle = (low * high) ** 0.5
    x = middle * np.array([0.1, 10.0])
    y = (bottom * top) ** 0.5 * (x / middle) ** (-1 / order)
    ax.plot(x, y, color="0.6", lw=1, ls=":")
    ax.annotate(f"order {order}", (x[0], y[0]), color="0.4", fontsize=9)
    ax.set(xlim=(low, high), ylim=(bottom, top))


def energy_drift(t: Array, drift: Mapping[str, Array]) -> "tuple[Figure, Table]":
    """Median relative energy error against time, drift of shape (n, T)."""
    figure, (ax,) = _figure(1)
    rows: list[list[Any]] = []
    for name, one in drift.items():
        middle = np.median(one[:, 1:], axis=0)
        ax.plot(t[1:], middle, label=name, lw=1)
        rows += [[name, a, b] for a, b in zip(t[1:].tolist(), middle, strict=True)]
    ax.set(yscale="log", xlabel="time", ylabel="relative energy error, median")
    _legend_above(figure, ax)
    return figure, (["method", "t", "median"], rows)


def training_curves(reports: Mapping[str, FitReport]) -> "tuple[Figure, Table]":
    """Held-out relative error along the trainings; the closed-form linear part as a dotted line."""
    figure, (ax,) = _figure(1)
    rows: list[list[Any]] = []
    for i, (name, report) in enumerate(reports.items()):
        if report.curve:
            at, _, left = zip(*report.curve, strict=True)
            ax.plot(at, left, color=f"C{i}", label=name)
            rows += [[name, *row] for row in report.curve]
        ax.axhline(report.rel_linear, color=f"C{i}", ls=":", lw=1)
    ax.set(yscale="log", xlabel="iteration", ylabel="local error left, held out")
    _legend_above(figure, ax)
    return figure, (["method", "iteration", "training loss", "held-out relative error"], rows)


def local_errors(true: Array, learned: Array, names: Sequence[str]) -> "tuple[Figure, Table]":
    """Learned against true local errors (n, d) of unseen pairs, at most four components."""
    shown = min(4, true.shape[1])
    figure, axes = _figure(shown, shape=(2, 2) if shown >= 3 else (1, shown))
    for i, ax in enumerate(axes):
        ax.plot(true[:, i], learned[:, i], ".", ms=2)
        ends = [true[:, i].min(), true[:, i].max()]
        ax.plot(ends, ends, "k-", lw=0.8)
        ax.set(xlabel=f"error of the base, {names[i]}", ylabel="correction")
        ax.ticklabel_format(scilimits=(-2, 2))
    columns = [f"{kind} {name}" for kind in ("true", "learned") for name in names]
    return figure, (columns, np.column_stack([true, learned]).tolist())


def out_of_domain(scale: Sequence[float], rows: Mapping[str, Sequence[tuple[float, float]]]) -> "tuple[Figure, Table]":
    """Median and largest squared error as the initial states spread beyond the training's."""
    figure, (ax,) = _figure(1)
    table: list[list[Any]] = []
    for i, (name, values) in enumerate(rows.items()):
        middle, worst = zip(*values, strict=True)
        ax.plot(scale, middle, "o-", color=f"C{i}", label=f"{name}, median")
        ax.plot(scale, worst, "^--", color=f"C{i}", label=f"{name}, worst")
        table += [[name, *row] for row in zip(scale, middle, worst, strict=True)]
    ax.set(yscale="log", xlabel="spread of the initial states, training = 1", ylabel="mean square error")
    _legend_above(figure, ax)
    return figure, (["method", "scale", "median", "max"], table)


def as_csv(table: Table) -> str:
    """A table as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table[0])
    writer.writerows([[f"{x:.8g}" if isinstance(x, float) else x for x in row] for row in table[1]])
    return text.getvalue()


def _figure(panels: int, *, shape: tuple[int, int] | None = None, width: float | None = None) -> tuple[Any, list[Any]]:
    with needs("attsolver", "demo"):
        from matplotlib.figure import Figure
    rows, columns = shape or (1, panels)
    size = (6.4, 4.2) if panels == 1 else ((width or 4.6) * columns, 3.3 * rows + (1.0 if width else 0.4))
    figure = Figure(figsize=size)
    axes = np.atleast_1d(figure.subplots(rows, columns)).flatten().tolist()
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def _legend_above(figure: Any, ax: Any) -> None:
    handles, labels = ax.get_legend_handles_labels()
    columns = 4 if sum(map(len, labels)) < 50 else 3 if len(labels) > 4 else 2
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)
