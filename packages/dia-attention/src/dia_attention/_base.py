"""The attention that LSAS and ASR are built over, by name or by class."""

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from ._eca import ECA
from ._se import SE

Build: TypeAlias = Callable[[int], nn.Module]
Base: TypeAlias = Literal["se", "eca"] | Build
_BASES: dict[str, type[nn.Module]] = {"se": SE, "eca": ECA}


def build_base(
    base: Base,
    channels: int,
    *,
    reduction: float | None,
    init: str,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Module:
    """Build the base for one width.

    Raises:
        ValueError: The name is unknown, or the base has no such option.
        TypeError: ``base`` is a module instead of a class.
    """
    if not isinstance(base, str):
        if reduction is not None or init == "identity":
            raise ValueError(f"reduction and init='identity' are for bases by name; {base!r} is built with its width")
        return call_with_width(base, channels, device=device, dtype=dtype)
    if base not in _BASES:
        raise ValueError(f"unknown base {base!r}; give one of {sorted(_BASES)}, or a class")
    build: Any = _BASES[base]
    options = {} if reduction is None else {"reduction": reduction}
    if options and "reduction" not in inspect.signature(build).parameters:
        raise ValueError(f"reduction={reduction}, but the base {base!r} has no reduction")
    module: nn.Module = build(channels, init=init, device=device, dtype=dtype, **options)
    return module


def call_with_width(
    build: Build, channels: int, *, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Module:
    """Build a module of the user's for one width.

    Raises:
        TypeError: ``build`` is no class or function, or does not return a module.
    """
    if isinstance(build, nn.Module) or not callable(build):
        raise TypeError(f"got {type(build).__name__} {build!r}; give a class or function that is called with the width")
    with torch.device(device) if device is not None else nullcontext():
        module = build(channels)
    if not isinstance(module, nn.Module):
        raise TypeError(f"{build!r} returned {type(module).__name__}, expected a module")
    return module.to(dtype=dtype)
