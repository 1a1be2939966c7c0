"""Write records as JSON lines."""

import os
from collections.abc import Iterable
from pathlib import Path

from ._record import Record, to_line
from .runs._atomic import sync_directory


def write_jsonl(records: Iterable[Record], path: str | os.PathLike[str]) -> int:
    """Write records to a file of JSON lines, atomically and in constant memory.

    Args:
        records: Records.
        path: The file; `read_jsonl` gives the same records back.

    Returns:
        The number of records.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_jsonl([Record("", "T2T", "Why?", None, "Why not?", 5, "en")], Path(folder, "en.jsonl"))
        1
    """
    return write_lines((to_line(one) for one in records), path)


def write_lines(lines: Iterable[bytes], path: str | os.PathLike[str]) -> int:
    """Write lines, given without their ends, atomically; give their number."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{os.urandom(6).hex()}")
    count = 0
    try:
        with temporary.open("xb") as file:
            for line in lines:
                file.write(line + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)
    return count
