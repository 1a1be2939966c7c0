"""Tell a local folder from a Hub id, so that a folder that is missing is called missing."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def model_source(name: str | Path) -> str:
    """Return what ``from_pretrained`` shall be given.

    A ``Path``, and a string that cannot be a Hub id (``org/name`` or ``name``), or whose first part is a folder here,
    must exist.

    Args:
        name: A folder or a Hub id.

    Returns:
        The name.

    Raises:
        FileNotFoundError: It is a local folder and does not exist.
        ValueError: It is a file.

    Example:
        >>> model_source("org/model")
        'org/model'
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_file():
        raise ValueError(f"{name} is a file; give the folder of a model, or a Hub id such as org/name")
    local = isinstance(name, Path) or not _HUB_ID.fullmatch(name) or ("/" in name and Path(name).parent.is_dir())
    if local:
        raise FileNotFoundError(f"there is no folder {name} (absolute: {path.absolute()}); no hub was asked")
    return str(name)


@contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """Silence the bars that transformers and diffusers draw while they load, unless stderr is a terminal."""
    hosts = [
        sys.modules[name] for name in ("transformers.utils.logging", "diffusers.utils.logging") if name in sys.modules
    ]
    silenced: list[Any] = [host for host in hosts if host.is_progress_bar_enabled() and not sys.stderr.isatty()]
    for host in silenced:
        host.disable_progress_bar()
    try:
        yield
    finally:
        for host in silenced:
            host.enable_progress_bar()
