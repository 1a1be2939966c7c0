"""Figures of diagnoses and trainings, on matplotlib without pyplot; save them with ``figure.savefig``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sail_core.extras import needs
from sail_core.report import figure_style

from ._diagnose import Diagnosis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_gain", "plot_skips", "plot_stability"]


def plot_skips(diagnoses: Mapping[str, Diagnosis]) -> "Figure":
    """Draw, over the depth i of the skips: κ_i or gate, norm of the skip, and ρ_i of theorem 1.

    Args:
        diagnoses: By name, such as ``{"org": ..., "CS": ...}``.

    Returns:
        The figure.

    Raises:
        ValueError: There is none.
        MissingExtra: matplotlib is not installed.
    """
    figure, axes = _panels(3, diagnoses)
    for index, (name, found) in enumerate(diagnoses.items()):
        depth = [site.index for site in found.sites]
        series = ([s.kappa for s in found.sites], [s.skip for s in found.sites], [s.rho for s in found.sites])
        for axis, values in zip(axes, series, strict=True):
            axis.plot(depth, values, "o-", color=f"C{index % 8}", label=name, markersize=4)
    for axis, title in zip(axes, ("factor of the skip", "norm of the skip", "rho of theorem 1"), strict=True):
        axis.set(title=title, xlabel="depth i (1 is the shallowest)")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[1].set_ylim(0, 1.1 * max(site.skip for found in diagnoses.values() for site in found.sites))
    axes[2].set_yscale("log")
    _legend(figure, axes[0])
    return figure


def plot_gain(diagnoses: Mapping[str, Diagnosis]) -> "Figure":
    """Draw the measured input gain beside the expression of theorem 3, and the gradient norm.

    Args:
        diagnoses: By name.

    Returns:
        The figure; a bound that is unknown is left out.

    Raises:
        ValueError: There is none.
        MissingExtra: matplotlib is not installed.
    """
    figure, axes = _panels(2, diagnoses)
    for at, found in enumerate(diagnoses.values()):
        axes[0].plot([at], [found.gain], "o", color="C0", label="measured gain" if at == 0 else None)
        if found.bound is not None:
            label = "sum of kappa_i M0^i (c0 = 0)" if at == 0 else None
            axes[0].plot([at], [found.bound], "_", color="C3", markersize=16, markeredgewidth=2, label=label)
        axes[1].plot([at], [found.gradient], "s", color="C2")
    for axis, title in zip(axes, ("input gain", "norm of the gradient"), strict=True):
        axis.set_xticks(range(len(diagnoses)), list(diagnoses), rotation=30)
        axis.set(title=title)
        axis.margins(x=0.1)
    axes[0].set_yscale("log")
    axes[1].set_ylim(0, 1.1 * max(found.gradient for found in diagnoses.values()))
    _legend(figure, axes[0])
    return figure


def plot_stability(arms: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> "Figure":
    """Draw loss, gradient norm and feature norm over the steps: median and range over the seeds of each arm.

    Args:
        arms: By name, for each seed the rows of a `StabilityLogger`.

    Returns:
        The figure.

    Raises:
        ValueError: There is no arm, or one has no rows.
        MissingExtra: matplotlib is not installed.
    """
    import torch

    figure, axes = _panels(3, arms)
    for index, (name, seeds) in enumerate(arms.items()):
        length = min((len(rows) for rows in seeds), default=0)
        if length == 0:
            raise ValueError(f"the arm {name!r} has no rows")
        steps = [row["step"] for row in seeds[0][:length]]
        for axis, key in zip(axes, ("loss", "gradient_norm", "feature_norm"), strict=True):
            values = torch.tensor([[float(row[key]) for row in rows[:length]] for rows in seeds])
            axis.plot(steps, values.median(0).values.tolist(), color=f"C{index % 8}", label=name)
            low, high = values.min(0).values.tolist(), values.max(0).values.tolist()
            axis.fill_between(steps, low, high, color=f"C{index % 8}", alpha=0.2, linewidth=0)
    titles = ("loss", "norm of the gradient", "norm of the last feature")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="step", yscale="log")
    _legend(figure, axes[0])
    return figure


def _panels(count: int, things: Mapping[str, Any]) -> tuple["Figure", Any]:
    if not things:
        raise ValueError("there is nothing to draw: give at least one entry")
    with needs("scalelong", "demo"):
        from matplotlib.figure import Figure
    with figure_style():
        figure = Figure(figsize=(3.4 * count, 3.2))
        return figure, figure.subplots(1, count)


def _legend(figure: "Figure", axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
