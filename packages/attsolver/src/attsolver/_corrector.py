"""The learned correction of one step as plain arrays: what every backend can run."""

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

Features = Literal["state", "increment", "both"]
Activation = Literal["rational", "published", "relu", "silu", "tanh"]
Scaling = Literal["power", "none"]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Corrector:
    """A trained correction in float64 arrays, independent of torch modules.

    One step of length h from the state u, with the increment S of the base and the parameters theta of the system::

        z = [u | S | (u, S)] (+ theta when conditioning > 0),   z~ = (z - mu) / sigma
        Q = out_scale * (w_lin z~ + w2 rho(w1 z~ + b1) + b2) - q0
        u' = u + h S + (h / dt)^(order + 1) Q        (factor 1 when scaling is "none")

    rho is ``"rational"``: ``(a3 x^3 + a2 x^2 + a1 x + a0) / (1 + |b1 x + b2 x^2|)``; ``"published"``: the same
    numerator over b0 + b1 x + b2 x^2; or relu, silu, tanh.

    Args:
        base: Name of the base method.
        order: Its order p.
        dt: The step h0 of the training.
        features: What the network reads.
        mu: Mean of the features, shape (d_in,).
        sigma: Their scale, shape (d_in,), positive.
        w_lin: Linear part, shape (d, d_in).
        w1: First layer, shape (hidden, d_in); hidden may be 0.
        b1: Its bias, shape (hidden,).
        w2: Second layer, shape (d, hidden).
        b2: Its bias, shape (d,).
        out_scale: Scale of the outputs (standard deviation of the local error), shape (d,).
        q0: What is subtracted so that equilibria stay, shape (d,); zeros otherwise.
        activation: rho.
        coefficients: (a0, a1, a2, a3, b0, b1, b2) of a rational rho, else empty.
        scaling: Whether the correction is scaled with the step.
        conditioning: How many (flattened) system parameters are appended to the features.
        low: Lower bounds of the states that count as known, shape (d,); -inf where unknown.
        high: Upper bounds, shape (d,).
        system: Name of the system that it was trained on, empty when unknown.
        params_hash: ``params_hash`` of the parameters it was trained with; empty when conditioned or unknown.
    """

    base: str
    order: int
    dt: float
    features: Features
    mu: Array
    sigma: Array
    w_lin: Array
    w1: Array
    b1: Array
    w2: Array
    b2: Array
    out_scale: Array
    q0: Array
    activation: Activation = "rational"
    coefficients: tuple[float, ...] = ()
    scaling: Scaling = "power"
    conditioning: int = 0
    low: Array = field(default_factory=lambda: np.empty(0))
    high: Array = field(default_factory=lambda: np.empty(0))
    system: str = ""
    params_hash: str = ""

    def __post_init__(self) -> None:
        d, d_in, hidden = self.w_lin.shape[0], self.w_lin.shape[1], self.w1.shape[0]
        expected_in = {"state": d, "increment": d, "both": 2 * d}[self.features] + self.conditioning
        if d_in != expected_in:
            raise ValueError(f"features {self.features!r} of {d} states have {expected_in} inputs; w_lin has {d_in}")
        for name in ("low", "high"):
            if getattr(self, name).size == 0:
                object.__setattr__(self, name, np.full(d, -np.inf if name == "low" else np.inf))
        shapes = {
            "mu": (d_in,), "sigma": (d_in,), "w_lin": (d, d_in), "w1": (hidden, d_in), "b1": (hidden,),
            "w2": (d, hidden), "b2": (d,), "out_scale": (d,), "q0": (d,), "low": (d,), "high": (d,),
        }  # fmt: skip
        for name, shape in shapes.items():
            array = np.ascontiguousarray(getattr(self, name), dtype=np.float64)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}; expected {shape}")
            if name not in ("low", "high") and not np.isfinite(array).all():
                raise ValueError(f"{name} holds values that are not finite")
            object.__setattr__(self, name, array)
        if not (self.sigma > 0).all():
            raise ValueError("sigma must be positive")
        if not (math.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"dt must be positive and finite; got {self.dt}")
        rational = self.activation in ("rational", "published")
        if len(self.coefficients) != 7 * rational:
            raise ValueError(f"{self.activation} takes {7 * rational} coefficients; got {len(self.coefficients)}")

    @property
    def dim(self) -> int:
        """Number of states d."""
        return int(self.w_lin.shape[0])

    @property
    def hidden(self) -> int:
        """Width of the hidden layer."""
        return int(self.w1.shape[0])


@runtime_checkable
class Corrected(Protocol):
    """What ``solve`` needs of a corrected method; ``AttSolver`` is one."""

    base: str
    dt: float

    def corrector(self) -> Corrector:
        """The trained correction as arrays."""
        ...

    def correction(
        self, t: torch.Tensor | float, u: torch.Tensor, s: torch.Tensor, params: torch.Tensor | None
    ) -> torch.Tensor:
        """Q of ``Corrector`` for states and increments (..., d), without the factor (h / dt)^(p + 1)."""
        ...
