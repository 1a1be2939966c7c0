"""Pictures over depth: distribution of the gates, stiffness, gradient norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from sail_core.report import figure_style
from torch import Tensor

from dia_attention.metrics import StiffnessCurve

from ._figure import colours, key, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MEASURES = {
    "secant": "secant |Δf| / |Δx|",
    "step": "relative step |Δx| / |x|",
    "spectral": "spectral norm of the Jacobian",
}


def gate_histogram(networks: Mapping[str, Mapping[str, Tensor]], *, bins: int = 40) -> Figure:
    """How the gates are distributed in every block.

    Args:
        networks: For each network what `collect_gates` returned.
        bins: Of the histogram over [0, 1].

    Returns:
        One panel for each network: blocks from left to right, gate upwards, colour the share of all gates of the block;
        the white line is the mean.

    Raises:
        ValueError: There is nothing to draw.
        MissingExtra: matplotlib is not installed.
    """
    if not networks or not all(networks.values()):
        raise ValueError("no gates to draw")
    with figure_style():
        columns = min(3, len(networks))
        rows = -(-len(networks) // columns)
        figure = new_figure(3.2 * columns + 0.8, 2.5 * rows + 0.3)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axis in panels.flat[len(networks) :]:
            axis.set_visible(False)
        top = max(1.0, *(float(gate.max()) for gates in networks.values() for gate in gates.values()))
        for axis, (name, gates) in zip(panels.flat, networks.items(), strict=False):
            shares = [torch.histc(gate.float(), bins, 0, top) / gate.numel() for gate in gates.values()]
            extent = (0.5, len(gates) + 0.5, 0, top)
            image = axis.imshow(
                torch.stack(shares, 1).sqrt().tolist(),
                origin="lower",
                aspect="auto",
                extent=extent,
                cmap="cividis",
                vmin=0,
                vmax=1,
                interpolation="nearest",
            )
            axis.plot(range(1, len(gates) + 1), [gate.mean().item() for gate in gates.values()], "w.-", linewidth=1)
            axis.set_xticks(range(1, len(gates) + 1), [_short(path) for path in gates], rotation=90, fontsize=9)
            axis.set_title(name)
            axis.grid(visible=False)
            axis.set_xlabel("block (stage.block)")
        for axis in panels[:, 0]:
            axis.set_ylabel("gate")
        figure.colorbar(image, ax=panels.ravel().tolist(), label="√ share of the block's gates", shrink=0.9)
    return figure


def stiffness_depth(curves: Mapping[str, Sequence[StiffnessCurve]]) -> Figure:
    """Stiffness over depth, a panel for each measure and a line for each network.

    Args:
        curves: For each network its curves, of the same measures in the same order.

    Returns:
        The figure; bands are one standard deviation over images.

    Raises:
        ValueError: There is nothing to draw.
        MissingExtra: matplotlib is not installed.
    """
    if not curves or not all(curves.values()):
        raise ValueError("no curves to draw")
    with figure_style():
        count = len(next(iter(curves.values())))
        figure = new_figure(3.6 * count + 0.4, 3.5)
        axes = figure.subplots(1, count, squeeze=False)[0]
        shade = colours(curves)
        for name, found in curves.items():
            for axis, curve in zip(axes, found, strict=True):
                places = range(1, len(curve.paths) + 1)
                axis.plot(places, curve.mean.tolist(), "o-", color=shade[name], markersize=3.5, linewidth=1.4)
                low, high = (curve.mean - curve.std).clamp_min(1e-12), curve.mean + curve.std
                axis.fill_between(places, low.tolist(), high.tolist(), color=shade[name], alpha=0.1, linewidth=0)
                axis.set_title(_MEASURES[curve.measure], fontsize=11)
                axis.set_xticks(places, [_short(path) for path in curve.paths], rotation=90, fontsize=9)
                axis.set_xlabel("block (stage.block)")
                if (curve.mean > 0).any():  # with one block a stage there is no secant, and no logarithm of it
                    axis.set_yscale("log")
        handles = [key(color=colour, marker="o", markersize=3.5) for colour in shade.values()]
        figure.legend(handles, list(shade), loc="outside lower center", ncols=len(shade))
    return figure


def gradient_depth(conditions: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Gradient norm at every convolution, a panel for each condition and a line for each network.

    Args:
        conditions: For each condition and network what `gradient_norms` returned.

    Returns:
        The figure, logarithmic.

    Raises:
        ValueError: There is nothing to draw.
        MissingExtra: matplotlib is not installed.
    """
    if not conditions or not all(conditions.values()):
        raise ValueError("no gradient norms to draw")
    with figure_style():
        figure = new_figure(3.6 * len(conditions) + 0.4, 3.3)
        axes = figure.subplots(1, len(conditions), squeeze=False)[0]
        names = list(dict.fromkeys(name for networks in conditions.values() for name in networks))
        shade = colours(names)
        for axis, (condition, networks) in zip(axes, conditions.items(), strict=True):
            for name, norms in networks.items():
                axis.plot(range(1, len(norms) + 1), list(norms.values()), color=shade[name], linewidth=1.3)
            axis.set_yscale("log")
            axis.set_title(condition, fontsize=11)
            axis.set_xlabel("convolution, from the input")
        axes[0].set_ylabel("gradient norm")
        handles = [key(color=colour) for colour in shade.values()]
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _short(path: str) -> str:
    """Stage and block of a module's path, without the norm that an attention of one norm sits on."""
    block, _, last = path.removeprefix("layer").rpartition(".")
    return block if block and not last.isdigit() else path.removeprefix("layer")
