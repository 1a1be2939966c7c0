"""An empty figure in the house style, and the colour of every network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sail_core.extras import needs

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_COLOURS = {
    "plain": "#444444",
    "SE": "#E69F00",
    "DIA": "#0072B2",
    "RAS": "#009E73",
    "LSAS": "#CC79A7",
    "ASR": "#D55E00",
    "StepNet": "#56B4E9",
}
_OTHERS = ("#000000", "#882255", "#117733", "#999933", "#332288", "#44AA99")


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: Okabe and Ito's for the networks of the papers, Tol's for others."""
    free = iter(_OTHERS * 8)
    return {name: _COLOURS.get(name) or next(free) for name in names}


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with needs("dia-attention", "demo"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height))


def key(**style: Any) -> Line2D:
    """An entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **style)
