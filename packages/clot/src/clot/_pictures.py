"""Pictures by their identifier, from a folder or a zip file, read when asked for."""

import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
MAX_BYTES = 64 << 20


class Pictures(Mapping[str, bytes]):
    """The pictures of a folder or zip file. Keys are file names without suffix, values the encoded bytes.

    Only the names are held in memory. Nothing outside the folder is read: symbolic links that leave it, links in an
    archive and encrypted members are left out. Pictures are not decoded here.

    Args:
        path: A folder, searched with its subfolders, or a zip file.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: Two pictures have one identifier, the zip file is broken, or, on access, a picture is larger than
            64 MiB.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "5651380.jpg").write_bytes(b"...")
        ...     print(dict(Pictures(folder)))
        {'5651380': b'...'}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = Path(path)
        self._names: dict[str, str] = {}
        if self._root.is_dir():
            names = self._files()
        elif self._root.is_file():
            names = self._members()
        else:
            raise FileNotFoundError(f"there is no folder or zip file of pictures {os.fspath(path)!r}")
        for name in names:
            key = Path(name).stem
            if key in self._names:
                raise ValueError(f"{self._names[key]} and {name} in {self._root.name} have one identifier; rename one")
            self._names[key] = name

    def _files(self) -> Iterator[str]:
        root = self._root.resolve()
        for path in sorted(self._root.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file() and path.resolve().is_relative_to(root):
                yield path.relative_to(self._root).as_posix()

    def _members(self) -> Iterator[str]:
        try:
            with zipfile.ZipFile(self._root) as archive:
                for info in archive.infolist():
                    refused = info.is_dir() or stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 1
                    if Path(info.filename).suffix.lower() in SUFFIXES and not refused:
                        yield info.filename
        except zipfile.BadZipFile as error:
            raise ValueError(f"{self._root.name} is no zip file of pictures: {error}") from None

    def __getitem__(self, key: str) -> bytes:
        name = self._names[key]
        if self._root.is_dir():
            with Path(self._root, name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        else:
            with zipfile.ZipFile(self._root) as archive, archive.open(name) as member:
                data = member.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"the picture {key!r} is larger than {MAX_BYTES >> 20} MiB")
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, key: object) -> bool:
        return key in self._names
