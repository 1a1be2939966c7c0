"""Figures: loss curves, drift of each token, accuracies with intervals, and pictures side by side.

Each function returns a ``matplotlib.figure.Figure`` for ``sail_core.report.Report.add_figure``.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sail_core.extras import needs
from sail_core.report import figure_style
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracy_bars", "loss_curves", "picture_grid", "token_drift"]


def _figure(size: tuple[float, float]) -> "Figure":
    with needs("sur-adapter", "demo"):
        from matplotlib.figure import Figure
    return Figure(figsize=size)


def loss_curves(curves: Mapping[str, Sequence[float]], *, window: int = 25) -> "Figure":
    """Draw each loss over the steps on an axis of its own.

    Args:
        curves: Values a step, by name of the loss.
        window: Steps of the moving average; the single values are drawn faintly.

    Returns:
        The figure.

    Raises:
        ValueError: There is no curve, or one is empty.

    Example:
        >>> [axis.get_title() for axis in loss_curves({"diffusion": [0.9, 0.7], "prompt": [0.2, 0.1]}).axes]
        ['diffusion', 'prompt']
    """
    if not curves or not all(len(values) for values in curves.values()):
        raise ValueError("there is no loss to draw; give at least one value for each name")
    with figure_style():
        figure = _figure((3.2 * len(curves), 2.6))
        axes = figure.subplots(1, len(curves), squeeze=False)[0]
        for axis, (name, values) in zip(axes, curves.items(), strict=True):
            width = min(window, len(values))
            smooth = np.convolve(np.asarray(values, dtype=float), np.ones(width) / width, mode="valid")
            axis.plot(values, color="#0072B2", alpha=0.25, linewidth=0.7)
            axis.plot(np.arange(width - 1, len(values)), smooth, color="#0072B2")
            axis.set_title(name)
            axis.set_xlabel("step")
            axis.set_ylim(bottom=0, top=1.1 * float(np.quantile(np.asarray(values, dtype=float), 0.995)) or 1.0)
    return figure


def token_drift(rows: Sequence[tuple[Sequence[str], Sequence[float] | Tensor]], *, columns: int = 2) -> "Figure":
    """Draw how far the adapter moves each token: ``‖y - x‖ / ‖x‖``.

    Args:
        rows: One a prompt: its tokens, and a value for each.
        columns: Panels side by side.

    Returns:
        The figure.

    Raises:
        ValueError: There is no prompt, or tokens and values differ in number.

    Example:
        >>> figure = token_drift([(["two", "cats"], [0.1, 0.4])])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['two', 'cats']
    """
    if not rows:
        raise ValueError("there is no prompt to draw")
    for tokens, values in rows:
        if len(tokens) != len(values) or not len(tokens):
            raise ValueError(f"{len(tokens)} tokens and {len(values)} values; give as many of each, at least one")
    lines = -(-len(rows) // columns)
    longest = max(len(tokens) for tokens, _ in rows)
    with figure_style():
        figure = _figure((4.4 * columns, (0.6 + 0.2 * longest) * lines))
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
        for axis, (tokens, values) in zip(axes, rows, strict=False):
            at = np.arange(len(tokens))
            axis.barh(at, [float(value) for value in values], color="#0072B2")
            axis.set_yticks(at, list(tokens), fontsize=8)
            axis.invert_yaxis()
            axis.grid(axis="y", visible=False)
        for axis in axes[len(rows) :]:
            axis.set_axis_off()
        for axis in axes.reshape(lines, columns)[-1]:
            axis.set_xlabel("relative drift of the token")
    return figure


def accuracy_bars(
    groups: Mapping[str, Mapping[str, Sequence[float]]], *, chance: Mapping[str, float] | None = None
) -> "Figure":
    """Draw mean accuracies as bars, the single values as dots, and chance as a line.

    Args:
        groups: By suite, by system, its values in 0 .. 1: one a seed.
        chance: By suite.

    Returns:
        The figure.

    Raises:
        ValueError: There is nothing to draw.

    Example:
        >>> figure = accuracy_bars({"mention": {"base": [0.1, 0.12], "adapter": [0.4, 0.5]}}, chance={"mention": 0.1})
        >>> [round(float(bar.get_height())) for bar in figure.axes[0].patches]
        [11, 45]
    """
    if not groups or not all(groups.values()):
        raise ValueError("there is no accuracy to draw")
    systems = list(next(iter(groups.values())))
    with figure_style():
        figure = _figure((1.6 + max(1.1, 0.3 * len(systems)) * len(groups), 3.4))
        axis = figure.subplots()
        width = 0.8 / len(systems)
        for number, system in enumerate(systems):
            at = np.arange(len(groups)) + (number - (len(systems) - 1) / 2) * width
            values = [list(suite.get(system, [])) for suite in groups.values()]
            axis.bar(at, [100 * float(np.mean(one)) if one else 0 for one in values], 0.92 * width, label=system)
            for x, one in zip(at, values, strict=True):
                axis.plot([x] * len(one), [100 * value for value in one], "o", color="black", markersize=2.5)
        for number, suite in enumerate(groups):
            if chance and suite in chance:
                label = None if any(line.get_label() == "chance" for line in axis.lines) else "chance"
                axis.plot(
                    [number - 0.46, number + 0.46], [100 * chance[suite]] * 2, "--", color="#555555", lw=1, label=label
                )
        axis.set_xticks(np.arange(len(groups)), [textwrap.fill(name, 12) for name in groups])
        axis.grid(axis="x", visible=False)
        axis.set_ylim(0, 105)
        axis.set_ylabel("right pictures, %")
        figure.legend(loc="outside upper center", ncols=len(systems) + 1)
    return figure


def picture_grid(rows: Sequence[tuple[str, Sequence[Any]]], columns: Sequence[str], *, edge: float = 1.0) -> "Figure":
    """Draw pictures in a grid, a row for each prompt and a column for each system.

    Args:
        rows: A prompt and its pictures: tensors ``(C, H, W)`` in -1 .. 1 or PIL images.
        columns: Titles, one for each picture of a row.
        edge: Side of a picture in inches.

    Returns:
        The figure.

    Raises:
        ValueError: There is no row, or a row has another number of pictures than there are columns.

    Example:
        >>> figure = picture_grid([("two cats", [torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])], ["base", "adapter"])
        >>> len(figure.axes)
        3
    """
    if not rows or any(len(pictures) != len(columns) for _, pictures in rows):
        raise ValueError(f"expected rows of {len(columns)} pictures each, at least one row")
    with figure_style():
        figure = _figure((3.2 + 1.04 * edge * len(columns), 0.35 + 1.04 * edge * len(rows)))
        ratios = [3.2, *[1.04 * edge] * len(columns)]
        axes = figure.subplots(len(rows), 1 + len(columns), squeeze=False, gridspec_kw={"width_ratios": ratios})
        layout: Any = figure.get_layout_engine()
        layout.set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
        for line, (prompt, pictures) in zip(axes, rows, strict=True):
            line[0].set_axis_off()
            line[0].text(0.98, 0.5, _wrapped(prompt, 46), fontsize=9, ha="right", va="center")
            for axis, picture in zip(line[1:], pictures, strict=True):
                axis.imshow(_pixels(picture), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axis.set_axis_off()
        for axis, title in zip(axes[0][1:], columns, strict=True):
            axis.set_title(textwrap.fill(title, int(12 * edge), break_long_words=False), fontsize=9)
    return figure


def _pixels(picture: Any) -> Any:
    if isinstance(picture, torch.Tensor):
        pixels = (picture.detach().cpu().float().clamp(-1, 1) + 1) / 2
        return pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    return np.asarray(picture.convert("RGB")) / 255


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width)[:4])
