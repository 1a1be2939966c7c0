"""Pictures of where networks look: Grad-CAM overlays, bars of their biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from sail_core.report import figure_style
from torch import Tensor

from dia_attention.metrics import Bias

from ._figure import colours, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {
    "position": "position bias",
    "range": "range bias",
    "leakage": "leakage",
    "pointing": "pointing game (more is better)",
}


def cam_overlays(images: Tensor, cams: Mapping[str, Tensor], masks: Tensor | None = None) -> Figure:
    """Images with their activation maps laid over: a row for each network, a column for each image.

    Args:
        images: `(N, 3, H, W)` or `(N, 1, H, W)` in [-1, 1].
        cams: For each network its maps `(N, H, W)` in [0, 1].
        masks: The evidence `(N, H, W)`, whose border is drawn in white.

    Returns:
        The figure; its first row shows the images alone.

    Raises:
        ValueError: There is nothing to draw, or shapes differ.
        MissingExtra: matplotlib is not installed.
    """
    shape = (len(images), *images.shape[-2:])
    for name, given in cams.items():
        if tuple(given.shape) != shape:
            raise ValueError(f"{name}: maps {tuple(given.shape)} do not fit images {tuple(images.shape)}")
    if not cams or not len(images):
        raise ValueError("no activation maps to draw")
    pictures = ((images + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    with figure_style():
        figure = new_figure(1.15 * len(images) + 1.1, 1.15 * (len(cams) + 1) + 0.1)
        panels = figure.subplots(len(cams) + 1, len(images), squeeze=False)
        rows: list[tuple[str, Tensor | None]] = [("image", None), *cams.items()]
        for axes, (name, maps) in zip(panels, rows, strict=True):
            for index, axis in enumerate(axes):
                grey = 1.0 if maps is None else 0.75
                axis.imshow((pictures[index] * grey).tolist())
                if maps is not None:
                    axis.imshow(maps[index].tolist(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)
                    if masks is not None:
                        axis.contour(masks[index].float().tolist(), [0.5], colors="white", linewidths=0.9)
                axis.set_xticks([])
                axis.set_yticks([])
                axis.grid(visible=False)
                for spine in axis.spines.values():
                    spine.set_visible(False)
            axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)  # type: ignore[union-attr, call-arg]
    return figure


def bias_bars(biases: Mapping[str, list[Bias]]) -> Figure:
    """The four rates of `attention_bias`, a panel for each, a bar for each network and a point for each seed.

    Args:
        biases: For each network its biases, one for each seed.

    Returns:
        The figure.

    Raises:
        ValueError: There is nothing to draw.
        MissingExtra: matplotlib is not installed.
    """
    if not biases or not all(biases.values()):
        raise ValueError("no biases to draw")
    with figure_style():
        figure = new_figure(11, 0.36 * len(biases) + 1.2)
        axes = figure.subplots(1, len(_TITLES), sharey=True)
        shade = colours(biases)
        for axis, (field, title) in zip(axes, _TITLES.items(), strict=True):
            for place, (name, seeds) in enumerate(biases.items()):
                values = [100 * asdict(one)[field] for one in seeds]
                axis.barh(place, sum(values) / len(values), color=shade[name], alpha=0.75, height=0.7)
                axis.plot(values, [place] * len(values), "k.", markersize=4)
            axis.set_title(title, fontsize=11)
            axis.set_xlabel("% of images" if field != "leakage" else "% of the map")
            axis.tick_params(left=False)
        axes[0].set_yticks(range(len(biases)), list(biases))
        axes[0].invert_yaxis()
    return figure
