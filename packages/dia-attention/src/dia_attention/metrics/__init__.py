"""Measures of what attention does in a network: gates, activation maps, stiffness, gradients."""

from ._bias import Bias, attention_bias, grad_cam
from ._gates import by_stage, collect_gates, layer_correlation, stripe_score
from ._gradients import gradient_norms
from ._stiffness import StiffnessCurve, relative_step, secant_index, spectral_norm, stiffness_curve

__all__ = [
    "Bias",
    "StiffnessCurve",
    "attention_bias",
    "by_stage",
    "collect_gates",
    "grad_cam",
    "gradient_norms",
    "layer_correlation",
    "relative_step",
    "secant_index",
    "spectral_norm",
    "stiffness_curve",
    "stripe_score",
]
