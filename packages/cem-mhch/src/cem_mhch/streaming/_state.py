"""Tensors of a model's state as plain JSON values, and back."""

from typing import Any

import torch
from torch import Tensor

_DTYPES = {str(one).removeprefix("torch."): one for one in (torch.float32, torch.float64, torch.int64, torch.bool)}


def to_json(state: dict[str, Tensor]) -> dict[str, Any]:
    """Name, type, shape and values of each tensor; float32 survives exactly."""
    described = {}
    for name, value in state.items():
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in _DTYPES:
            value, dtype = value.float(), "float32"
        described[name] = {"dtype": dtype, "shape": list(value.shape), "values": value.reshape(-1).tolist()}
    return described


def from_json(described: Any, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of what `to_json` gave, on the device and of the dtype of a fresh state.

    Raises:
        ValueError: It is not the state of the model that `like` comes from.
    """
    if not isinstance(described, dict) or described.keys() != like.keys():
        found = sorted(described) if isinstance(described, dict) else type(described).__name__
        raise ValueError(f"the saved state has {found}, the model's has {sorted(like)}: it is another model's")
    state = {}
    for name, fresh in like.items():
        try:
            one = described[name]
            value = torch.tensor(one["values"], dtype=_DTYPES[one["dtype"]]).reshape(one["shape"])
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ValueError(f"the saved state of {name!r} cannot be read: {error}") from error
        if value.ndim != fresh.ndim or value.shape[:1] != fresh.shape[:1] or value.shape[-1:] != fresh.shape[-1:]:
            raise ValueError(f"the saved state of {name!r} is {tuple(value.shape)}, the model's {tuple(fresh.shape)}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"the saved state of {name!r} is not finite")
        state[name] = value.to(fresh)
    return state
