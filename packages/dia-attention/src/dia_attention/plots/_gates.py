"""Pictures of gates: stripes over images and channels, correlation over blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sail_core.report import figure_style
from torch import Tensor

from dia_attention.metrics import stripe_score

from ._figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stripes(gates: Mapping[str, Tensor], *, images: int = 60) -> Figure:
    """The gates of one block of several networks: a row for each image, a column for each channel.

    Columns are sorted by their mean, and each panel has a scale of its own; a gate that does not depend on the image
    shows as vertical stripes.

    Args:
        gates: For each title the gates `(N, C)` of one block.
        images: Rows to draw.

    Returns:
        One panel for each title with its stripe score.

    Raises:
        ValueError: There are no gates, or some are not `(N, C)`.
        MissingExtra: matplotlib is not installed.
    """
    if not gates:
        raise ValueError("no gates to draw")
    with figure_style():
        columns = min(3, len(gates))
        rows = -(-len(gates) // columns)
        figure = new_figure(3.7 * columns, 2.0 * rows + 0.4)
        panels = figure.subplots(rows, columns, squeeze=False)
        for axis in panels.flat[len(gates) :]:
            axis.set_visible(False)
        for axis, (title, gate) in zip(panels.flat, gates.items(), strict=False):
            score = stripe_score(gate)
            order = gate.mean(0).argsort()
            image = axis.imshow(gate[:images, order].tolist(), aspect="auto", cmap="cividis", interpolation="nearest")
            axis.set_title(f"{title}: η² = {score:.2f}" if score == score else f"{title}: constant")
            axis.grid(visible=False)
            figure.colorbar(image, ax=axis, label="gate" if axis in panels[:, -1] else None)
        for axis in panels[-1]:
            axis.set_xlabel("channel, sorted by mean gate")
        for axis in panels[:, 0]:
            axis.set_ylabel("image")
    return figure


def correlations(networks: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """Correlation between the gates of the blocks of each stage.

    Args:
        networks: For each network and stage the `(L, L)` matrix of `layer_correlation`.

    Returns:
        A row for each network, a panel for each stage, with its mean over the pairs of different blocks.

    Raises:
        ValueError: There is nothing to draw.
        MissingExtra: matplotlib is not installed.
    """
    if not networks or not all(networks.values()):
        raise ValueError("no correlations to draw")
    with figure_style():
        columns = max(map(len, networks.values()))
        figure = new_figure(2.6 * columns + 1.0, 2.5 * len(networks) + 0.3)
        panels = figure.subplots(len(networks), columns, squeeze=False)
        for axes, (name, stages) in zip(panels, networks.items(), strict=True):
            for axis in axes[len(stages) :]:
                axis.set_visible(False)
            for axis, (stage, matrix) in zip(axes, stages.items(), strict=False):
                values = matrix.tolist()
                image = axis.imshow(values, vmin=-1, vmax=1, cmap="RdBu_r")
                for row, line in enumerate(values):
                    for column, value in enumerate(line):
                        colour = "white" if abs(value) > 0.6 else "black"
                        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
                pairs = [value for row, line in enumerate(values) for value in line[:row]]
                mean = sum(pairs) / max(1, len(pairs))
                axis.set_title(f"{name}, {stage}: mean {mean:.2f}", fontsize=10)
                axis.set_xticks(range(len(values)), range(1, len(values) + 1))
                axis.set_yticks(range(len(values)), range(1, len(values) + 1))
                axis.grid(visible=False)
            axes[0].set_ylabel("block")
        for axis in panels[-1]:
            axis.set_xlabel("block")
        figure.colorbar(image, ax=panels.ravel().tolist(), label="Pearson correlation", shrink=0.85)
    return figure
