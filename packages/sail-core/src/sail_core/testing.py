"""Numeric test helpers: relative error, poisoned allocations and an exact count of memory traffic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["ByteCount", "OpTraffic", "assert_rel", "byte_count", "poison_empty", "relative_error"]


def relative_error(ref: Any, got: Any) -> float:
    """Relative root-mean-square error of ``got``.

    ``||got - ref|| / ||ref||`` in double precision. Infinities and NaN must stand at the same places with the same
    sign and are then left out; otherwise, and where only ``ref`` is all zero, the error is infinite.

    Args:
        ref: Tensor, array or number.
        got: The same, of the same shape.

    Returns:
        The error, at least 0.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> relative_error([3.0, 4.0], [3.0, 4.5])
        0.1
    """
    ref, got = _double(ref), _double(got)
    if ref.shape != got.shape:
        raise ValueError(f"shapes differ: expected {tuple(ref.shape)}, got {tuple(got.shape)}")
    finite = torch.isfinite(ref)
    if not torch.equal(finite, torch.isfinite(got)):
        return float("inf")
    if not torch.equal(torch.nan_to_num(ref[~finite]), torch.nan_to_num(got[~finite])):
        return float("inf")
    difference, norm = (got - ref)[finite].norm().item(), ref[finite].norm().item()
    if difference == 0:
        return 0.0
    return difference / norm if norm > 0 else float("inf")


def assert_rel(name: str, ref: Any, got: Any, tol: float) -> None:
    """Assert that ``got`` has the shape of ``ref`` and a relative root-mean-square error of at most ``tol``.

    Args:
        name: What is compared, for the message.
        ref: Tensor, array or number.
        got: The same, of the same shape.
        tol: Largest error allowed, see ``relative_error``.

    Raises:
        AssertionError: If the shapes differ or the error is larger.

    Example:
        >>> assert_rel("y", [1.0, 2.0], [1.0, 3.0], 1e-3)
        Traceback (most recent call last):
        AssertionError: y: relative error 0.447 > 0.001; largest difference 1 at (1,): expected 2, got 3
    """
    try:
        error = relative_error(ref, got)
    except ValueError as mismatch:
        raise AssertionError(f"{name}: {mismatch}") from None
    if not error <= tol:
        ref, got = _double(ref), _double(got)
        gap = torch.where((ref == got) | (ref.isnan() & got.isnan()), 0.0, (got - ref).abs().nan_to_num(nan=torch.inf))
        at = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
        raise AssertionError(
            f"{name}: relative error {error:.3g} > {tol:.3g}; largest difference {gap[at]:.3g} at {at}: "
            f"expected {ref[at].item():.9g}, got {got[at].item():.9g}"
        )


def _double(value: Any) -> Tensor:
    tensor = torch.as_tensor(value).detach()
    return tensor.to("cpu", torch.complex128 if tensor.is_complex() else torch.float64)


_ALLOCATIONS = {
    "aten::empty",
    "aten::empty_like",
    "aten::empty_permuted",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
}


class _Poison(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._schema.name in _ALLOCATIONS:
            if out.is_floating_point() or out.is_complex():
                out.fill_(float("nan"))
            else:
                out.fill_(True if out.dtype == torch.bool else torch.iinfo(out.dtype).max)
        return out


@contextmanager
def poison_empty() -> Iterator[None]:
    """Fill uninitialised tensors with NaN, or with the largest integer, inside the block.

    Covers torch.empty, empty_like, empty_strided, empty_permuted, new_empty and new_empty_strided, also where torch's
    own composite functions call them. A kernel that leaves part of its output unwritten then gives a visible result.

    Example:
        >>> with poison_empty():
        ...     print(torch.empty(2))
        tensor([nan, nan])
    """
    with _Poison():  # type: ignore[no-untyped-call]
        yield


class OpTraffic(NamedTuple):
    """Bytes that one call of one operator reads and writes."""

    name: str
    read: int
    written: int


@dataclass
class ByteCount:
    """What a ``byte_count`` block moved: one entry in ``ops`` for each operator call that is not a view."""

    ops: list[OpTraffic] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Bytes read."""
        return sum(op.read for op in self.ops)

    @property
    def written(self) -> int:
        """Bytes written."""
        return sum(op.written for op in self.ops)

    def passes(self, nbytes: int) -> float:
        """All bytes moved, in units of one map of ``nbytes`` bytes."""
        return (self.read + self.written) / nbytes


# Operators that look only at the shape of their first argument, or overwrite it without looking at its values.
_SHAPE_ONLY = {f"aten::{kind}_like" for kind in ("zeros", "ones", "full", "rand", "randn", "randint")} | {
    f"aten::new_{kind}" for kind in ("zeros", "ones", "full")
}
_OVERWRITING = {f"aten::{kind}_" for kind in ("copy", "zero", "fill", "uniform", "normal", "random", "bernoulli")}


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, count: ByteCount) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        schema = func._schema
        views = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        if views or schema.name in _ALLOCATIONS:
            return out
        read = written = 0
        for i, argument in enumerate(schema.arguments):
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            size = _size(value)
            writes = argument.alias_info is not None and argument.alias_info.is_write
            written += size if writes else 0
            unread = argument.is_out or schema.name in _SHAPE_ONLY or (writes and schema.name in _OVERWRITING)
            read += 0 if unread else size
        fresh = [r.alias_info is None for r in schema.returns]
        for value, new in zip(out if isinstance(out, (tuple, list)) and len(fresh) > 1 else [out], fresh, strict=True):
            written += _size(value) if new else 0
        self.count.ops.append(OpTraffic(schema.name.removeprefix("aten::"), read, written))
        return out


def _size(value: Any) -> int:
    """Bytes of the distinct elements of a tensor, or of all tensors in a list."""
    if isinstance(value, (list, tuple)):
        return sum(_size(item) for item in value)
    if not isinstance(value, Tensor):
        return 0
    distinct = 1
    for length, stride in zip(value.shape, value.stride(), strict=True):
        distinct *= length if stride or not length else 1
    return distinct * value.element_size()


@contextmanager
def byte_count() -> Iterator[ByteCount]:
    """Count the bytes that torch operators read and write inside the block, on any device.

    Every operand counts once per call, an expanded one with its distinct elements only; views and bare allocations are
    free. What happens inside one operator, such as a copy that it makes for itself, is not seen.

    Yields:
        The running count.

    Example:
        >>> x = torch.ones(256)
        >>> with byte_count() as count:
        ...     y = (x * 2).relu_()
        >>> count.read, count.written, count.passes(x.nbytes), [op.name for op in count.ops]
        (2048, 2048, 4.0, ['mul', 'relu_'])
    """
    count = ByteCount()
    with _Count(count):
        yield count
