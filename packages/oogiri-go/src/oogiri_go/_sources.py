"""Which files a source means."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_NAMES = ("en.jsonl", "cn.jsonl", "zh.jsonl", "jp.jsonl", "ja.jsonl")
_PIECE = 1 << 20

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Sources:
    """The files to read.

    Attributes:
        files: Files of JSON lines.
        images: The folder or zip file of pictures, or None.
    """

    files: tuple[Path, ...]
    images: Path | None


def find_sources(sources: PathLike | Sequence[PathLike], images: PathLike | None = None) -> Sources:
    """Find the files of JSON lines and the pictures.

    A folder stands for the published layout: ``en.jsonl``, ``cn.jsonl``, ``jp.jsonl``, and ``images.zip`` or
    ``images/`` beside them; a folder without any of these files stands for all its ``*.jsonl``.

    Args:
        sources: Files of JSON lines, or folders.
        images: The pictures, where they do not lie in a folder of ``sources``.

    Returns:
        What was found.

    Raises:
        FileNotFoundError: A source does not exist, or a folder has no such file.
        ValueError: Two files have one name, or two folders have pictures.
    """
    listed = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not listed:
        raise ValueError("there is no source; give a file of JSON lines or a folder that has one")
    files: list[Path] = []
    beside: list[Path] = []
    for source in map(Path, listed):
        if source.is_dir():
            found = [source / name for name in _NAMES if (source / name).is_file()]
            found = found or sorted(source.glob("*.jsonl"))
            if not found:
                raise FileNotFoundError(f"the folder {os.fspath(source)!r} has no .jsonl file")
            files += found
            beside += [path for path in (source / "images.zip", source / "images") if path.exists()][:1]
        elif source.is_file():
            files.append(source)
        else:
            raise FileNotFoundError(f"there is no file or folder {os.fspath(source)!r}")
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        raise ValueError(f"two sources have one name among {sorted(names)}; rename one, reports tell them apart by it")
    if images is not None:
        beside = [Path(images)]
    if len(beside) > 1:
        raise ValueError(f"there are pictures in {', '.join(map(str, beside))}; name one of them as images")
    for path in beside:
        if not path.exists():
            raise FileNotFoundError(f"there is no folder or zip file of pictures {os.fspath(path)!r}")
    return Sources(tuple(files), beside[0] if beside else None)


def pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def fingerprint(images: Path) -> str:
    """What tells one state of a folder or zip file of pictures from another."""
    if images.is_file():
        return sha256(images)
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(images):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            state = path.lstat()
            digest.update(f"{path.relative_to(images).as_posix()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
