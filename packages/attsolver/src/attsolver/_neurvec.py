"""NeurVec as published: a raw-state network of width 1024 beside the step, and the converter for its checkpoints."""

import math
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ._activation import INITIAL, denominator_is_positive
from ._attsolver import AttSolver

_NAMES = {"error.nn.0.weight": "w1", "error.nn.0.bias": "b1", "error.nn.2.weight": "w2", "error.nn.2.bias": "b2"}
_COEFFICIENTS = tuple(f"error.nn.1.{name}" for name in ("a0", "a1", "a2", "a3", "b0", "b1", "b2"))


class NeurVec(AttSolver):
    """``u' = u + h S + W_2 R(W_1 u + b_1) + b_2`` with one rational function R for the layer.

    The AttSolver with ``features="state"``, no linear part, no normalisation and no scaling with the step; weights
    start as those of ``torch.nn.Linear``.

    Args:
        base: Base method; the authors used euler and the classical rk4 (``"rk4_classic"``).
        dt: Step of the training.
        dim: Number of states.
        hidden: Width.
        device: Of the weights.
        dtype: Of the weights; float64 when None.

    Example:
        >>> net = NeurVec.published(4)
        >>> sum(p.numel() for p in net.parameters() if p.requires_grad)
        9227

    Reference:
        Huang, Liang, Zhang, Yang, Lin: On fast simulation of dynamical system with neural vector enhanced numerical
        solver, Scientific Reports 13, 15254 (2023), arXiv 2208.03680.
    """

    def __init__(
        self,
        base: str,
        dt: float,
        *,
        dim: int | None = None,
        hidden: int = 1024,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            base,
            dt,
            dim=dim,
            features="state",
            hidden=hidden,
            activation="published",
            linear=False,
            scaling="none",
            normalize=False,
            device=device,
            dtype=dtype,
        )

    @classmethod
    def published(cls, dim: int, *, base: str = "rk4_classic", dt: float = 0.1) -> "NeurVec":
        """The published network for ``dim`` states, width 1024; base and step are the elastic pendulum's."""
        return cls(base, dt, dim=dim)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw both layers as ``torch.nn.Linear`` does, and the published coefficients."""
        for weight, fan_in in (
            (self.w1, self.dim),
            (self.b1, self.dim),
            (self.w2, self.hidden),
            (self.b2, self.hidden),
        ):
            drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
            weight.copy_((2 * drawn - 1) / math.sqrt(fan_in or 1))
        self.w_lin.zero_()
        self.coefficients.copy_(torch.tensor(INITIAL))


def load_neurvec_checkpoint(path: str | Path, *, base: str, dt: float) -> NeurVec:
    """Read a checkpoint of the authors' repository, ``{"state_dict": ..., "optimizer": ...}``, tensors only.

    Args:
        path: The .pth or .pth.tar file. It is read with ``torch.load(weights_only=True)``.
        base: Base method it was trained with; the file does not say.
        dt: Step it was trained with.

    Returns:
        The network in float64; the authors' unused parameter ``null`` is left out.

    Raises:
        ValueError: For anything else: other keys, shapes that do not fit, values that are not finite, a denominator
            with a real root, or a pickle that holds more than tensors.
        FileNotFoundError: There is no such file.
    """
    weights = _tensors(Path(path))
    w1 = weights["error.nn.0.weight"]
    if w1.ndim != 2:
        raise ValueError(f"{path}: error.nn.0.weight has shape {tuple(w1.shape)}; expected (hidden, d)")
    solver = NeurVec(base, dt, dim=w1.shape[1], hidden=w1.shape[0])
    coefficients = [weights[name] for name in _COEFFICIENTS]
    if any(one.numel() != 1 for one in coefficients):
        raise ValueError(f"{path}: the coefficients of the rational function are not single numbers")
    values = tuple(float(one) for one in coefficients)
    with torch.no_grad():
        for name, own in _NAMES.items():
            target = getattr(solver, own)
            if weights[name].shape != target.shape:
                raise ValueError(
                    f"{path}: {name} has shape {tuple(weights[name].shape)}; expected {tuple(target.shape)}"
                )
            target.copy_(weights[name])
        solver.coefficients.copy_(torch.tensor(values))
    if not all(bool(torch.isfinite(one).all()) for one in solver.parameters()):
        raise ValueError(f"{path} holds values that are not finite")
    if not denominator_is_positive(values):
        raise ValueError(f"{path}: the denominator {values[4]} + {values[5]} x + {values[6]} x^2 vanishes for a real x")
    return solver


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; the content is judged below
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path} is not a checkpoint of tensors: {reason[0]}") from error
    if not isinstance(content, dict) or set(content) != {"state_dict", "optimizer"}:
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds {found}; a NeurVec checkpoint holds state_dict and optimizer")
    state = content["state_dict"]
    expected = {*_NAMES, *_COEFFICIENTS}
    found_names = set(state) - {"null"} if isinstance(state, dict) else set()
    if found_names != expected or not all(isinstance(one, Tensor) for one in state.values()):
        raise ValueError(f"{path}: the state_dict differs from NeurVec's in {sorted(found_names ^ expected)}")
    return dict(state)
