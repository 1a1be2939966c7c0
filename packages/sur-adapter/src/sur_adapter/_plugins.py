"""Functions of the user's own, named on the command line as ``MODULE:NAME``."""

import importlib
from collections.abc import Callable
from typing import Any


def load_plugin(name: str) -> Callable[..., Any]:
    """Import a function; its module is executed, as with any import.

    Args:
        name: Such as ``my_captions:describe``.

    Returns:
        The function.

    Raises:
        ValueError: There is no such module or function.

    Example:
        >>> load_plugin("math:sqrt")(9)
        3.0
    """
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise ValueError(f"{name!r} names no function; write MODULE:NAME, such as my_captions:describe")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot load {name}: {error}") from error
    if not callable(found):
        raise ValueError(f"{name} is a {type(found).__name__}; it must be a function")
    return found  # type: ignore[no-any-return]
