"""AttSolver: an explicit method plus a learned correction of its local error."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._activation import ACTIVATIONS, INITIAL, activate
from ._corrector import Activation, Corrector, Features, Scaling
from ._eager import increment
from ._grid import Save
from ._solution import Solution
from ._solve import Backend, OnLeaving, solve, step
from ._tableaus import TABLEAUS, Tableau

WEIGHTS = ("w_lin", "w1", "b1", "w2", "b2", "coefficients")
SCALES = ("mu", "sigma", "out_scale", "low", "high")


class AttSolver(nn.Module):
    """A one-step method with an additive correction that reads the method's own increment.

    With the increment S of the base method of order p and the step h::

        z  = [u | S | (u, S)] (+ parameters when conditioning > 0),   z~ = (z - mu) / sigma
        Q  = D (W_lin z~ + W_2 rho(W_1 z~ + b_1) + b_2)
        u' = u + h S + (h / dt)^(p + 1) Q

    mu, sigma and D (the standard deviation of the local error) come from the training data, see ``fit``. Before that Q
    is 0 and the steps are those of the base method, bit for bit.

    Args:
        base: euler, midpoint, heun, rk3, rk4 (the 3/8 rule), rk4_classic, dopri5 or dop853.
        dt: The step that it is trained for, in the system's unit of time.
        dim: Number of states d; None leaves it to ``fit``.
        features: What the network reads: ``"state"`` u, ``"increment"`` S, or ``"both"``.
        hidden: Width of the hidden layer; 0 leaves the linear part alone.
        activation: ``"rational"`` (denominator at least 1), relu, silu or tanh.
        linear: Whether there is W_lin, which ``fit`` computes in closed form before it trains the rest.
        scaling: ``"power"`` scales Q with the step as above, so that steps may be shortened; ``"none"`` does not.
        preserve_equilibria: Subtract Q(0), so that f(u) = 0 gives u' = u; for ``features="increment"``.
        conditioning: Number of flattened system parameters that the network reads too (``len(rhs.param_names)``), for
            one corrector over a family of parameters.
        normalize: Whether features and outputs are scaled by the training data; False leaves mu = 0, sigma = D = 1.
        device: Of the weights.
        dtype: Of the weights; float64 when None, because the correction of a method of high order lies below the
            resolution of float32.

    Raises:
        ValueError: For options that do not go together.

    Example:
        >>> from attsolver import systems
        >>> system = systems.get("henon_heiles")
        >>> solver = AttSolver("rk4", 0.5, dim=4, hidden=16)
        >>> y0 = system.sample(3)
        >>> bool((solver.step(system, 0.0, y0) == step(system, 0.0, y0, 0.5, method="rk4")).all())
        True

    Reference:
        Huang, Liang, Lin: AttSolver (arXiv 2302.10184, 2023); in its second version Huang, Liang, Zhong, Lin: AttNS:
        Attention-Inspired Numerical Solving for Limited Data Scenarios, ICML 2024. The additive form and the increment
        as input are theirs; the linear part, the scaling and the normalisation are this package's.
    """

    w_lin: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    coefficients: Tensor
    mu: Tensor
    sigma: Tensor
    out_scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        base: str,
        dt: float,
        *,
        dim: int | None = None,
        features: Features = "both",
        hidden: int = 32,
        activation: Activation = "rational",
        linear: bool = True,
        scaling: Scaling = "power",
        preserve_equilibria: bool = False,
        conditioning: int = 0,
        normalize: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(base, dt, features, hidden, activation, linear, scaling, conditioning)
        if preserve_equilibria and (features != "increment" or conditioning):
            raise ValueError(
                'preserve_equilibria needs features="increment" without conditioning: only the increment is 0 at every '
                f"equilibrium; got features={features!r}, conditioning={conditioning}"
            )
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"weights are float32 or float64; got {dtype}")
        self.base, self.dt, self.dim = base, float(dt), dim
        self.features: Features = features
        self.activation: Activation = activation
        self.scaling: Scaling = scaling
        self.hidden, self.linear, self.conditioning = hidden, linear, conditioning
        self.preserve_equilibria, self.normalize = preserve_equilibria, normalize
        self.system, self.params_hash = "", ""
        self._factory: dict[str, Any] = {"device": device, "dtype": dtype or torch.float64}
        self._arrays: tuple[Any, Corrector] | None = None
        self._materialized = False
        for name in WEIGHTS:
            self.register_parameter(name, None)
        for name in SCALES:
            self.register_buffer(name, None)
        if dim is not None:
            self.materialize(dim)

    @classmethod
    def paper(
        cls, base: str, dt: float, *, dim: int | None = None, hidden: int = 1024, activation: Activation = "rational"
    ) -> Self:
        """The published form as far as it could be read: input S, no linear part, no scaling with the step.

        The width is NeurVec's; the paper's own could not be read. The features are normalised, which is ours.

        Args:
            base: As in the class.
            dt: As in the class.
            dim: As in the class.
            hidden: Width.
            activation: rho.
        """
        return cls(
            base,
            dt,
            dim=dim,
            features="increment",
            hidden=hidden,
            activation=activation,
            linear=False,
            scaling="none",
        )

    @property
    def tableau(self) -> Tableau:
        """The base method."""
        return TABLEAUS[self.base]

    def materialize(self, dim: int) -> None:
        """Make the weights for ``dim`` states; ``fit`` does it where ``dim`` was left out.

        Raises:
            ValueError: When dim is below 1, or the weights are there already with another dim.
        """
        if dim < 1 or (self._materialized and dim != self.dim):
            raise ValueError(f"this solver is for {self.dim or 'at least 1'} states; got {dim}")
        if self._materialized:
            return
        self.dim, self._materialized = dim, True
        d_in = dim * (2 if self.features == "both" else 1) + self.conditioning
        shapes = {
            "w_lin": (dim, d_in),
            "w1": (self.hidden, d_in),
            "b1": (self.hidden,),
            "w2": (dim, self.hidden),
            "b2": (dim,),
            "coefficients": (len(INITIAL) if self.activation in ("rational", "published") else 0,),
        }
        for name, shape in shapes.items():
            weight = nn.Parameter(torch.zeros(shape, **self._factory))
            weight.requires_grad_(weight.numel() > 0 and (self.linear or name != "w_lin"))
            setattr(self, name, weight)
        scales: dict[str, Any] = self._factory | {"dtype": torch.float64}
        self.mu, self.sigma = torch.zeros(d_in, **scales), torch.ones(d_in, **scales)
        self.out_scale = torch.ones(dim, **scales)
        self.low, self.high = (torch.full((dim,), bound, **scales) for bound in (-math.inf, math.inf))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw W_1 and b_1 uniformly within 1 / sqrt(d_in); everything else starts such that Q is 0."""
        bound = 1 / math.sqrt(self.w1.shape[1])
        for weight in (self.w1, self.b1):
            drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
            weight.copy_((2 * drawn - 1) * bound)
        for weight in (self.w_lin, self.w2, self.b2):
            weight.zero_()
        if self.coefficients.numel():
            self.coefficients.copy_(torch.tensor(INITIAL))

    def network(self, z: Tensor) -> Tensor:
        """``W_lin z~ + W_2 rho(W_1 z~ + b_1) + b_2`` of normalised features z~ (..., d_in), shape (..., d)."""
        weights = {name: getattr(self, name).to(z.dtype) for name in WEIGHTS}
        hidden = activate(F.linear(z, weights["w1"], weights["b1"]), self.activation, weights["coefficients"])
        out = F.linear(hidden, weights["w2"], weights["b2"])
        return out + F.linear(z, weights["w_lin"]) if self.linear else out

    def normalized(self, u: Tensor, s: Tensor, params: Tensor | None = None) -> Tensor:
        """The normalised features z~ (..., d_in) of states, increments (..., d) and flat parameters.

        Raises:
            ValueError: When the solver has no weights yet, or parameters are missing.
        """
        self._need_weights()
        parts = {"state": [u], "increment": [s], "both": [u, s]}[self.features]
        if self.conditioning:
            if params is None or params.shape[-1] != self.conditioning:
                shape = None if params is None else tuple(params.shape)
                raise ValueError(f"the corrector reads {self.conditioning} system parameters; got {shape}")
            parts = [*parts, params.to(u).expand(*u.shape[:-1], self.conditioning)]
        z = torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
        return (z - self.mu.to(z.dtype)) / self.sigma.to(z.dtype)

    def correction(self, t: Tensor | float, u: Tensor, s: Tensor, params: Tensor | None = None) -> Tensor:
        """Q for states u and increments s (..., d), differentiable, without the factor (h / dt)^(p + 1).

        Args:
            t: Time; the correction does not depend on it.
            u: States.
            s: Increments S of the base method.
            params: Flat system parameters (n_params,) or (..., n_params); read when ``conditioning`` is not 0.

        Raises:
            ValueError: When the solver has no weights yet, or parameters are missing.
        """
        q = self.network(self.normalized(u, s, params))
        if self.preserve_equilibria:
            zero = torch.zeros_like(u[..., :1, :].reshape(-1, u.shape[-1])[0])
            q = q - self.network(self.normalized(zero, zero))
        return self.out_scale.to(q.dtype) * q

    def forward(self, t: Tensor | float, u: Tensor, s: Tensor, params: Tensor | None = None) -> Tensor:
        """The same as ``correction``."""
        return self.correction(t, u, s, params)

    def advance(self, f: Any, t: Any, u: Tensor, params: Tensor | None = None) -> Tensor:
        """One corrected step of length dt of ``f(t, u)``, for training: t may be a tensor, parameters are flat."""
        s = increment(f, t, u, self.dt, self.tableau)
        return u + self.dt * s + self.correction(t, u, s, params)

    def corrector(self) -> Corrector:
        """The correction as plain arrays, which every backend runs; made again only when a weight has changed.

        Raises:
            ValueError: When the solver has no weights yet, or one is not finite.
        """
        self._need_weights()
        tensors = [getattr(self, name) for name in (*WEIGHTS, *SCALES)]
        key = tuple((id(x), None if x.is_inference() else x._version) for x in tensors)
        if self._arrays is None or self._arrays[0] != (key, self.system, self.params_hash):
            self._arrays = ((key, self.system, self.params_hash), self._build())
        return self._arrays[1]

    def _build(self) -> Corrector:
        assert self.dim is not None
        arrays = {n: getattr(self, n).detach().cpu().double().numpy().copy() for n in (*WEIGHTS, *SCALES)}
        coefficients = tuple(float(x) for x in arrays.pop("coefficients"))
        q0 = np.zeros(self.dim)
        if self.preserve_equilibria:
            with torch.no_grad():
                zero = torch.zeros(self.dim, dtype=torch.float64, device=self.mu.device)
                q0 = (self.out_scale * self.network(self.normalized(zero, zero))).cpu().numpy()
        return Corrector(
            base=self.base,
            order=self.tableau.order,
            dt=self.dt,
            features=self.features,
            q0=q0,
            activation=self.activation,
            coefficients=coefficients,
            scaling=self.scaling,
            conditioning=self.conditioning,
            system=self.system,
            params_hash=self.params_hash,
            **arrays,
        )

    def _need_weights(self) -> None:
        if not self._materialized:
            raise ValueError("this AttSolver has no weights yet: fit it, or construct it with dim=")

    def step(self, func: Any, t: float, y: Tensor, *, params: Any = None) -> Tensor:
        """One differentiable step of length dt; arguments as in ``attsolver.step``."""
        return step(func, t, y, self.dt, method=self, params=params)

    def solve(
        self,
        func: Any,
        y0: Tensor,
        *,
        t: Sequence[float] | Tensor,
        backend: Backend = "auto",
        save: Save = "all",
        params: Any = None,
        out_of_domain: OnLeaving = "warn",
    ) -> Solution:
        """Solve with steps of dt; arguments as in ``attsolver.solve``."""
        return solve(func, y0, t=t, method=self, backend=backend, save=save, params=params, out_of_domain=out_of_domain)

    def save(self, path: str | Path) -> None:
        """Write weights and description to one safetensors file, atomically."""
        from ._checkpoint import save_solver

        save_solver(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "AttSolver":
        """Read what ``save`` wrote, after checking all of it; nothing in the file is executed.

        Raises:
            ValueError: For a file that is damaged, foreign, of another format or of another tableau.
            FileNotFoundError: There is no such file.
        """
        from ._checkpoint import load_solver

        return load_solver(path)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.base}, dt={self.dt:g}, dim={self.dim}, features={self.features!r}, hidden={self.hidden}"


def _check(
    base: str,
    dt: float,
    features: str,
    hidden: int,
    activation: str,
    linear: bool,
    scaling: str,
    conditioning: int,
) -> None:
    if base not in TABLEAUS:
        raise ValueError(f"there is no base method {base!r}; expected one of {', '.join(TABLEAUS)}")
    if not (isinstance(dt, int | float) and math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt is a positive number; got {dt!r}")
    choices = (("features", features, ("state", "increment", "both")), ("activation", activation, ACTIVATIONS))
    for name, value, known in (*choices, ("scaling", scaling, ("power", "none"))):
        if value not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}; got {value!r}")
    for name, count in (("hidden", hidden), ("conditioning", conditioning)):
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"{name} is an int of at least 0; got {count!r}")
    if hidden == 0 and not linear:
        raise ValueError("hidden=0 with linear=False leaves nothing to learn")
