"""Figures of what `dia_attention.metrics` measures, as matplotlib Figures; they need the extra demo."""

from ._cam import bias_bars, cam_overlays
from ._depth import gate_histogram, gradient_depth, stiffness_depth
from ._gates import correlations, stripes

__all__ = [
    "bias_bars",
    "cam_overlays",
    "correlations",
    "gate_histogram",
    "gradient_depth",
    "stiffness_depth",
    "stripes",
]
