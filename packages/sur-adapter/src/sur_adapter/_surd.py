"""Read triplets of narrative prompt, complex prompt and image in the layout of SURD: a folder or a zip archive.

``metadata.jsonl`` has an object a line: ``file_name`` (in SURD without its extension), ``text`` (the narrative prompt)
and ``prompt`` (the complex one); the images stand beside it. An archive is read in place, and nothing is unpacked.

References:
    - Zhong, Huang, Wen, Qin, Lin: SUR-adapter. 2023, arXiv 2305.05189, section 3 (the data set SURD).
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

METADATA = "metadata.jsonl"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_LARGEST = 256 << 20


@dataclass(frozen=True)
class Triplet:
    """One row: the image's name in the source (None without images), and the two prompts."""

    image: str | None
    narrative: str
    complex: str


class Surd:
    """The triplets of a source.

    Args:
        source: A folder with metadata.jsonl, a zip archive that holds one, or the metadata file itself.
        images: Whether the images are needed.

    Attributes:
        rows: The triplets.

    Raises:
        FileNotFoundError: The source or its metadata is not there.
        ValueError: A line is not a row, a prompt is empty, or images are missing (counted, the first named).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     row = {"file_name": "1", "text": "a cat", "prompt": "cat, 8k"}
        ...     _ = Path(folder, METADATA).write_text(json.dumps(row))
        ...     print(Surd(folder, images=False).rows)
        [Triplet(image=None, narrative='a cat', complex='cat, 8k')]
    """

    def __init__(self, source: str | os.PathLike[str], *, images: bool = True) -> None:
        self.source = Path(source)
        self._archive: zipfile.ZipFile | None = None
        if self.source.suffix == ".zip" and self.source.is_file():
            text, names = self._open_archive()
        else:
            text, names = self._open_folder(images)
        self.rows = list(_rows(text, f"{source}: {METADATA}", names if images else None))

    def _open_archive(self) -> tuple[str, set[str]]:
        try:
            self._archive = zipfile.ZipFile(self.source)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{self.source} is not a whole zip archive ({error}); copy it again") from error
        members = self._archive.namelist()
        found = sorted((name for name in members if PurePosixPath(name).name == METADATA), key=len)
        if not found:
            raise FileNotFoundError(f"{self.source} holds no {METADATA}")
        self._prefix = found[0].removesuffix(METADATA)
        names = {name.removeprefix(self._prefix) for name in members if name.startswith(self._prefix)}
        return self._archive.read(found[0]).decode(), names

    def _open_folder(self, images: bool) -> tuple[str, set[str]]:
        path = self.source if self.source.suffix == ".jsonl" else self.source / METADATA
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; give SURD.zip, or a folder with {METADATA} and its images")
        self._folder = path.parent
        below = (Path(folder, name) for folder, _, files in os.walk(self._folder) for name in files) if images else ()
        return path.read_text(encoding="utf-8"), {one.relative_to(self._folder).as_posix() for one in below}

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, row: int) -> bytes:
        """Return the file of a row's image.

        Raises:
            ValueError: It was read without images, or the image is larger than 256 MiB.
        """
        name = self.rows[row].image
        if name is None:
            raise ValueError(f"{self.source} was opened without its images")
        if self._archive is None:
            return (self._folder / name).read_bytes()
        member = self._archive.getinfo(f"{self._prefix}{name}")
        if member.file_size > _LARGEST:
            raise ValueError(f"{self.source}: {name} has {member.file_size} bytes, more than an image")
        return self._archive.read(member)

    def digest(self) -> str:
        """Return the SHA-256 over names and prompts."""
        told = [[one.image, one.narrative, one.complex] for one in self.rows]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _rows(text: str, where: str, names: set[str] | None) -> Iterable[Triplet]:
    by_stem = {} if names is None else _stems(names)
    missing: list[str] = []
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, narrative, complex_ = row["file_name"], row["text"], row["prompt"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{where}, line {number} has no file_name, text and prompt ({type(error).__name__}: {error})"
            ) from error
        if not all(isinstance(one, str) and one.strip() for one in (name, narrative, complex_)):
            raise ValueError(f"{where}, line {number}: file_name, text and prompt must be texts that are not empty")
        image = None
        if names is not None:
            image = name if name in names else by_stem.get(name)
            if image is None:
                missing.append(name)
        rows.append(Triplet(image, narrative, complex_))
    if missing:
        raise ValueError(f"{where}: {len(missing)} of {len(rows)} images are missing; first: {missing[0]}")
    if not rows:
        raise ValueError(f"{where} has no rows")
    return rows


def _stems(names: set[str]) -> dict[str, str]:
    """Images by their name without extension."""
    images = sorted(name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES)
    return {name[: -len(PurePosixPath(name).suffix)]: name for name in images}
