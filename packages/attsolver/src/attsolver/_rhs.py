"""A right-hand side written once, component by component, that every backend runs."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, overload

import numpy as np
import torch

from ._trace import FUNCTIONS, Graph, trace

Value = float | Sequence[float] | torch.Tensor
Function = Callable[[Any, tuple[Any, ...], Any, Any], Sequence[Any]]


class _TorchMath:
    """The namespace m of a right-hand side under torch; plain numbers stay plain numbers."""

    pi = math.pi

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in FUNCTIONS:
            raise AttributeError(f"m has {', '.join(FUNCTIONS)} and pi; a right-hand side asked for m.{name}")
        plain: Any = {"minimum": min, "maximum": max, "abs": abs}.get(name) or getattr(math, name)
        on_tensors = getattr(torch, name)

        def apply(*arguments: Any) -> Any:
            tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
            if not tensors:
                return plain(*arguments)
            return on_tensors(
                *(a if isinstance(a, torch.Tensor) else torch.as_tensor(a).to(tensors[0]) for a in arguments)
            )

        setattr(self, name, apply)
        return apply


_TORCH = _TorchMath()


class ComponentwiseRHS:
    """``dx/dt = f(t, x, p, m)`` with x a tuple of components, p the parameters by name and m the functions.

    Made by ``rhs``. Calling it evaluates f under torch on states (..., d); the engine traces the same function once and
    compiles it.

    Args:
        function: f; returns one derivative per component. It may loop over components, but not branch on their values.
        params: Default parameters by name: a number, or a sequence of numbers.
        positions: Indices of the components that are positions, for ``leapfrog`` and ``pefrl``.
    """

    def __init__(
        self, function: Function, *, params: Mapping[str, Value] | None = None, positions: Sequence[int] | None = None
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "rhs")
        self.params: dict[str, float | tuple[float, ...]] = {}
        for name, value in (params or {}).items():
            if isinstance(value, int | float):
                self.params[name] = float(value)
            else:
                self.params[name] = tuple(float(one) for one in value)
        self.positions = None if positions is None else tuple(positions)
        self.flat_defaults: list[float] = []
        for value in self.params.values():
            self.flat_defaults += [value] if isinstance(value, float) else value
        self.default_array = np.array([self.flat_defaults], dtype=np.float64)
        self.plans: dict[Any, Callable[..., None]] = {}  # compiled programs of the native engine
        self._graphs: dict[int, Graph] = {}

    def __call__(self, t: Any, y: torch.Tensor, params: Mapping[str, Value] | None = None) -> torch.Tensor:
        """The derivative at states y (..., d), shape (..., d).

        Args:
            t: Time, a number or a tensor that broadcasts with ``y[..., 0]``.
            y: States.
            params: Parameters that differ from the defaults; (n,) or (n, length) gives each trajectory its own.
        """
        return self.flat(t, y, self.flat_params(params, y))

    def flat(self, t: Any, y: torch.Tensor, flat: torch.Tensor | None) -> torch.Tensor:
        """The derivative with the parameters as one tensor (..., n_params); None stands for the defaults."""
        parts = self.function(t, y.unbind(-1), self._namespace(self._values(flat)), _TORCH)
        first = y[..., 0]
        return torch.stack(
            [
                part if isinstance(part, torch.Tensor) and part.shape == first.shape else part + 0 * first
                for part in parts
            ],
            dim=-1,
        )

    @property
    def param_names(self) -> list[str]:
        """One name for each flattened parameter, ``k[3]`` inside sequences."""
        names = []
        for name, value in self.params.items():
            names += [name] if isinstance(value, float) else [f"{name}[{i}]" for i in range(len(value))]
        return names

    def flat_params(self, params: Mapping[str, Value] | None, like: torch.Tensor) -> torch.Tensor | None:
        """The parameters as one tensor: (n_params,), or (n, n_params) with one per trajectory; None for the defaults.

        Raises:
            ValueError: For an unknown name, a wrong shape or a value that is not finite.
        """
        if not params:
            return None
        unknown = set(params) - set(self.params)
        if unknown:
            raise ValueError(f"{self.name} has no parameter {sorted(unknown)}; it has {sorted(self.params)}")
        columns, batch = [], None
        for name, default in self.params.items():
            length = 1 if isinstance(default, float) else len(default)
            value = torch.as_tensor(params.get(name, default), dtype=like.dtype, device=like.device)
            own = () if isinstance(default, float) else (length,)
            if value.shape[value.ndim - len(own) :] != own or value.ndim > 1 + len(own):
                raise ValueError(f"parameter {name} has shape {tuple(value.shape)}; expected {own} or (n, *{own})")
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"parameter {name} holds values that are not finite")
            if value.ndim > len(own):
                if batch not in (None, value.shape[0]):
                    raise ValueError(f"parameter {name} has {value.shape[0]} trajectories, another has {batch}")
                batch = value.shape[0]
            columns.append(value.reshape(*value.shape[: value.ndim - len(own)], length))
        if batch is not None:
            if like.ndim < 2 or like.shape[-2] != batch:
                raise ValueError(
                    f"parameters are given for {batch} trajectories; the states have shape {tuple(like.shape)}"
                )
            columns = [c.expand(batch, c.shape[-1]) for c in columns]
        return torch.cat(columns, dim=-1)

    def default_params(self, like: torch.Tensor) -> torch.Tensor:
        """The default parameters as one tensor (n_params,)."""
        return torch.tensor(self.flat_defaults, dtype=like.dtype, device=like.device)

    def graph(self, dim: int) -> Graph:
        """The traced operations for a state of ``dim`` components."""
        if dim not in self._graphs:
            names = iter(range(10**9))

            def namespace(symbol: Callable[[int], Any]) -> Any:
                return SimpleNamespace(
                    **{
                        name: symbol(next(names))
                        if isinstance(value, float)
                        else tuple(symbol(next(names)) for _ in value)
                        for name, value in self.params.items()
                    }
                )

            self._graphs[dim] = trace(self.function, dim, namespace)
        return self._graphs[dim]

    def _values(self, flat: torch.Tensor | None) -> Sequence[Any]:
        return self.flat_defaults if flat is None else flat.unbind(-1)

    def _namespace(self, values: Sequence[Any]) -> Any:
        names, start = {}, 0
        for name, value in self.params.items():
            if isinstance(value, float):
                names[name], start = values[start], start + 1
            else:
                names[name], start = tuple(values[start : start + len(value)]), start + len(value)
        return Parameters(names)

    def __repr__(self) -> str:
        return f"<component-wise right-hand side {self.name} with parameters {sorted(self.params)}>"


class Parameters:
    """Parameters by name. Torch before 2.15 cannot trace a ``SimpleNamespace``."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        for name, value in names.items():
            setattr(self, name, value)


def params_hash(params: Mapping[str, float | tuple[float, ...]]) -> str:
    """Sixteen hexadecimal digits that change with any parameter."""
    return hashlib.sha256(repr(sorted(params.items())).encode()).hexdigest()[:16]


@overload
def rhs(function: Function) -> ComponentwiseRHS: ...
@overload
def rhs(
    *, params: Mapping[str, Value] | None = None, positions: Sequence[int] | None = None
) -> Callable[[Function], ComponentwiseRHS]: ...
def rhs(
    function: Function | None = None,
    *,
    params: Mapping[str, Value] | None = None,
    positions: Sequence[int] | None = None,
) -> ComponentwiseRHS | Callable[[Function], ComponentwiseRHS]:
    """Mark ``f(t, x, p, m)`` as a component-wise right-hand side, which every backend can run.

    Args:
        function: f: time, tuple of d components, parameters by name, and the functions sin, cos, exp, log, tanh, sqrt,
            abs, minimum, maximum (and pi); returns a tuple of d derivatives.
        params: Default parameters: a number or a sequence of numbers each.
        positions: Indices of the position components of a separable system.

    Returns:
        A callable ``(t, y, params=None)`` on tensors (..., d).

    Raises:
        ValueError: When f is called and returns another number of components.

    Example:
        >>> @rhs(params={"omega": 2.0})
        ... def oscillator(t, x, p, m):
        ...     return x[1], -p.omega**2 * x[0]
        >>> oscillator(0.0, torch.tensor([1.0, 0.0]))
        tensor([ 0., -4.])
    """
    if function is None:
        return lambda f: ComponentwiseRHS(f, params=params, positions=positions)
    return ComponentwiseRHS(function, params=params, positions=positions)
