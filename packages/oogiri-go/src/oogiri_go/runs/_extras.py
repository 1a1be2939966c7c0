"""Host libraries that are optional: the error that names the extra to install."""

import importlib
import sys
from types import TracebackType
from typing import Final


class MissingExtra(ImportError):
    """An optional dependency is not installed. The message is the command that installs it."""


class needs:
    """Wrap the import of a host library, so that its absence names the extra that brings it.

    Only the absence of a module that the block itself imports is translated. An installed host that fails to import,
    for whatever reason of its own, raises its own error unchanged.

    Args:
        dist: The distribution that has the extra.
        extra: The extra.

    Raises:
        MissingExtra: On leaving the block, when a module it imports is not installed.

    Example:
        >>> with needs("oogiri-go", "demo"):
        ...     import no_such_host
        Traceback (most recent call last):
        ...
        oogiri_go.runs._extras.MissingExtra: oogiri-go demo needs no_such_host: pip install 'oogiri-go[demo]'
    """

    def __init__(self, dist: str, extra: str) -> None:
        self._dist: Final = dist
        self._extra: Final = extra

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, ModuleNotFoundError) or not error.name:
            return
        host = error.name.partition(".")[0]
        if sys.modules.get(host) is not None or _raised_by_an_imported_module(traceback):
            return
        raise MissingExtra(
            f"{self._dist} {self._extra} needs {host}: pip install '{self._dist}[{self._extra}]'", name=host
        ) from error


def _raised_by_an_imported_module(traceback: TracebackType | None) -> bool:
    """Whether any frame below the block itself is other than the import machinery."""
    below = traceback.tb_next if traceback else None
    while below:
        filename = below.tb_frame.f_code.co_filename
        if not filename.startswith("<frozen importlib") and filename != importlib.__file__:
            return True
        below = below.tb_next
    return False
