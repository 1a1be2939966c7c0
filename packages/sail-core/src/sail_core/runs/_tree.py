"""A nested state as JSON and a flat mapping of tensors, and back, exactly.

In the JSON form, null, true, false, strings, lists, finite floats and integers below 2**53 in size stand for
themselves. Every JSON object has one key, which says what it stands for:

    {"tensor": name}   {"tuple": [...]}   {"dict" | "OrderedDict" | "Counter": [[key, value], ...]}
    {"int": "0x..."}   {"float": "nan" | "inf" | "-inf"}   {"numpy": [dtype, value]}   {"array": name of a tensor}
"""

from __future__ import annotations

import functools
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.torch
import torch

_MAPPINGS: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "Counter": lambda p: Counter(dict(p)),
}
_MAPPING_NAMES: dict[type, str] = {dict: "dict", OrderedDict: "OrderedDict", Counter: "Counter"}


def flatten(state: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Split a state into its JSON form and its tensors: contiguous, on the CPU, no two sharing memory.

    A tensor that occurs twice (tied weights) is stored once and comes back as one tensor in both places; other views of
    shared memory are stored as separate tensors.

    Args:
        state: Any nesting of dict, OrderedDict and Counter (keys str or int), list, tuple, Tensor, NumPy array or
            scalar, None, bool, int, float and str.

    Returns:
        The JSON form, and the tensors by the path of their first occurrence, such as ``/model/conv.weight``.

    Raises:
        TypeError: Something else is in it; the message names the place.
        ValueError: It contains itself, or is nested too deeply.
    """
    writer = _Writer()
    try:
        tree = writer.encode(state, "")
    except RecursionError:
        raise ValueError("the state is nested too deeply or contains itself") from None
    return tree, writer.tensors


class _Writer:
    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._storages: set[int] = set()

    def encode(self, value: Any, path: str) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if abs(value) < 2**53 else {"int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if kind is list:
            return [self.encode(one, f"{path}/{index}") for index, one in enumerate(value)]
        if kind is tuple:
            return {"tuple": [self.encode(one, f"{path}/{index}") for index, one in enumerate(value)]}
        if kind in _MAPPING_NAMES:
            return {_MAPPING_NAMES[kind]: [self._item(key, one, path) for key, one in value.items()]}
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            return {"tensor": self._tensor(value, path)}
        if isinstance(value, np.bool_ | np.integer | np.floating) and value.itemsize <= 8:
            return {"numpy": [value.dtype.name, self.encode(value.item(), path)]}
        if kind is np.ndarray:
            return {"array": self._array(value, path)}
        raise TypeError(
            f"the state holds {kind.__module__}.{kind.__qualname__} at {path or '/'}; convert it or leave it out: a "
            "checkpoint takes dict, OrderedDict, Counter, list, tuple, torch.Tensor, NumPy array or scalar, None, "
            "bool, int, float and str"
        )

    def _item(self, key: Any, value: Any, path: str) -> list[Any]:
        if type(key) is not str and type(key) is not int:
            raise TypeError(
                f"the state has the key {key!r} of type {type(key).__name__} at {path or '/'}; keys are str or int"
            )
        return [self.encode(key, path), self.encode(value, f"{path}/{key}")]

    def _array(self, value: np.ndarray[Any, Any], path: str) -> str:
        try:
            tensor = torch.from_numpy(np.array(value, order="C"))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"the state holds an array of dtype {value.dtype} at {path or '/'}; torch has no such dtype"
            ) from error
        return self._tensor(tensor, path)

    def _tensor(self, value: torch.Tensor, path: str) -> str:
        if value.layout is not torch.strided or value.is_quantized or value.is_nested or value.device.type == "meta":
            raise TypeError(
                f"the state holds a tensor of layout {value.layout} on {value.device} at {path or '/'}; "
                "a checkpoint takes dense tensors with data: convert it first"
            )
        if not _storable(value.dtype):
            raise TypeError(
                f"the state holds a tensor of {value.dtype} at {path or '/'}; the installed safetensors cannot store "
                "that dtype: convert it first"
            )
        value = value.detach()
        place = (
            value.device,
            value.data_ptr(),
            value.dtype,
            value.shape,
            value.stride(),
            value.is_conj(),
            value.is_neg(),
        )
        if value.numel() and place in self._names:
            return self._names[place]
        dense = value.resolve_conj().resolve_neg().cpu().contiguous()
        if dense.untyped_storage().data_ptr() in self._storages:
            dense = dense.clone()
        self._storages.add(dense.untyped_storage().data_ptr())
        name = (path or "/").encode(errors="backslashreplace").decode()
        while name in self.tensors:
            name += "'"
        self.tensors[name], self._names[place] = dense, name
        return name


@functools.cache
def _storable(dtype: torch.dtype) -> bool:
    """Whether the installed safetensors returns this dtype as it was (what it knows grows from version to version)."""
    try:
        packed = safetensors.torch.save({"x": torch.zeros(1, dtype=dtype)})
        return safetensors.torch.load(packed)["x"].dtype == dtype
    except Exception:  # every version refuses in its own way
        return False


def unflatten(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Put a state together again.

    Raises:
        ValueError: The JSON form is not one that `flatten` writes, or names a tensor that is not there.
    """
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if isinstance(tree, list):
        return [unflatten(one, tensors) for one in tree]
    try:
        ((kind, body),) = tree.items()
        if kind == "tensor":
            return tensors[body]
        if kind == "array":
            return tensors[body].numpy()
        if kind == "tuple":
            return tuple(unflatten(one, tensors) for one in body)
        if kind in _MAPPINGS:
            return _MAPPINGS[kind]([(unflatten(key, tensors), unflatten(one, tensors)) for key, one in body])
        if kind == "int":
            return int(body, 16)
        if kind == "float":
            return float(body)
        if kind == "numpy" and np.dtype(body[0]).kind in "biuf":
            return np.dtype(body[0]).type(unflatten(body[1], tensors))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    raise ValueError(f"unknown kind {kind!r}")
