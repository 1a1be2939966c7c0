"""Files that are either the old one or the new one, whenever the power goes."""

import os
from pathlib import Path


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and nothing between.

    The data go to a temporary file in the same directory, which is fsynced and renamed over ``path``; then the
    directory is fsynced. A symbolic link is followed: its target is replaced, not the link. Missing parents are made.

    Args:
        path: The file to write.
        data: Its content; a string is written as UTF-8, its line ends untouched.

    Raises:
        TypeError: ``data`` is neither bytes nor str.
        OSError: The file could not be written; the old one is unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomic(Path(folder, "a.txt"), "one")
        ...     write_atomic(Path(folder, "a.txt"), "two")
        ...     print(Path(folder, "a.txt").read_text(), len(os.listdir(folder)))
        two 1
    """
    if not isinstance(data, bytes | str):
        raise TypeError(f"write_atomic writes bytes or str, not {type(data).__name__}")
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{os.urandom(6).hex()}")
    try:
        write_synced(temporary, data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def write_synced(path: Path, data: bytes | str) -> None:
    """Create ``path``, which must not exist, and return when its data are on the disk."""
    with path.open("xb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Return when the names in a directory are on the disk (Windows has no such call and needs none)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
