"""Benchmark systems by name."""

from collections.abc import Callable as _Callable

from ._double_well import double_well as _double_well
from ._duffing import duffing as _duffing
from ._elastic_pendulum import elastic_pendulum as _elastic_pendulum
from ._henon_heiles import henon_heiles as _henon_heiles
from ._kepler import kepler as _kepler
from ._klink_pendulum import klink_pendulum as _klink_pendulum
from ._lorenz63 import lorenz63 as _lorenz63
from ._lorenz96 import lorenz96 as _lorenz96
from ._lotka_volterra import lotka_volterra as _lotka_volterra
from ._n_body import n_body as _n_body
from ._neural import neural as _neural
from ._spring_chain import spring_chain as _spring_chain
from ._system import System as System
from ._van_der_pol import van_der_pol as _van_der_pol

__all__ = ["System", "get", "names"]

_FIXED: dict[str, _Callable[[], System]] = {
    "double_well": _double_well,
    "duffing": _duffing,
    "elastic_pendulum": _elastic_pendulum,
    "henon_heiles": _henon_heiles,
    "kepler": _kepler,
    "lorenz63": _lorenz63,
    "lotka_volterra": _lotka_volterra,
    "van_der_pol": _van_der_pol,
}
_SIZED: dict[str, _Callable[[int], System]] = {
    "klink_pendulum": _klink_pendulum,
    "lorenz96": _lorenz96,
    "n_body": _n_body,
    "neural": _neural,
    "spring_chain": _spring_chain,
}
_DEFAULT_SIZE = {"klink_pendulum": 4, "lorenz96": 40, "n_body": 8, "neural": 32, "spring_chain": 20}
_cache: dict[tuple[str, int | None], System] = {}


def names() -> list[str]:
    """Names of the systems.

    Example:
        >>> len(names())
        13
    """
    return sorted([*_FIXED, *_SIZED])


def get(name: str, *, size: int | None = None) -> System:
    """A system by name; the same name and size give the same object.

    Args:
        name: One of ``names()``.
        size: Links of klink_pendulum (4), bodies of n_body (8), masses of spring_chain (20), components of lorenz96
            (40), hidden units of neural (32); None is the default in brackets. The other systems have no size.

    Raises:
        ValueError: For an unknown name, or a size where there is none to choose.

    Example:
        >>> get("elastic_pendulum").states
        ('theta', 'r', 'theta_dot', 'r_dot')
    """
    if name not in _FIXED and name not in _SIZED:
        raise ValueError(f"there is no system {name!r}; expected one of {', '.join(names())}")
    if name in _FIXED and size is not None:
        raise ValueError(f"{name} has no size; leave it out")
    size = _DEFAULT_SIZE.get(name) if size is None else size
    if (name, size) not in _cache:
        _cache[name, size] = _FIXED[name]() if size is None else _SIZED[name](size)
    return _cache[name, size]
