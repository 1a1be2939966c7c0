"""Word vectors from a file, of which only the wanted words are kept, and kept on disk for the next time."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from oogiri_go.runs import write_atomic
from tqdm import tqdm  # type: ignore[import-untyped]

from ._score import read_dictionary

Matrix = np.ndarray[Any, np.dtype[np.float32]]


class Embeddings(Mapping[str, Matrix]):
    """Vectors by word.

    Args:
        words: The words, no two equal.
        matrix: Their vectors, ``(words, dimensions)``.

    Raises:
        ValueError: The numbers do not match, or two words are equal.

    Example:
        >>> Embeddings(["cat"], np.ones((1, 3), dtype=np.float32))["cat"].shape
        (3,)
    """

    def __init__(self, words: list[str], matrix: Matrix) -> None:
        if matrix.ndim != 2 or len(matrix) != len(words):
            raise ValueError(f"{len(words)} words for a matrix of shape {matrix.shape}; expected a row for each word")
        self._rows = {word: at for at, word in enumerate(words)}
        if len(self._rows) < len(words):
            raise ValueError("a word stands twice among the embeddings")
        self._matrix = matrix

    def __getitem__(self, word: str) -> Matrix:
        row: Matrix = self._matrix[self._rows[word]]
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, word: object) -> bool:
        return word in self._rows

    @classmethod
    def from_glove(
        cls,
        path: str | os.PathLike[str],
        *,
        words: Collection[str] | str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> "Embeddings":
        """Read a text file with a word and its numbers on each line, as GloVe's and fastText's are.

        The numbers are counted from the right, for some words of GloVe 840B contain spaces. The first line of a
        fastText file, two numbers, is passed over. Of a word that comes twice the last vector counts, as in the
        authors' program.

        Args:
            path: The file.
            words: The words to keep: a collection, or a file for `read_dictionary`. None keeps all, which is gigabytes
                for GloVe 840B.
            cache: A folder; what was read is written there and read from there by the next call with the same file and
                words, memory-mapped.

        Returns:
            The vectors.

        Raises:
            ValueError: A line has another number of dimensions or something that is no number, or no word is left.
            FileNotFoundError: There is no such file.
        """
        path = Path(path)
        known = read_dictionary(words) if isinstance(words, str | os.PathLike) else words
        if not path.is_file():
            raise FileNotFoundError(f"there is no file of embeddings {os.fspath(path)!r}")
        if cache is None:
            return cls(*_read(path, known))
        folder = Path(cache)
        state = _state(path, known)
        if (found := _cached(folder, state)) is not None:
            return cls(*found)
        names, matrix = _read(path, known)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".tmp-{os.urandom(6).hex()}.npy"
        try:
            np.save(temporary, matrix, allow_pickle=False)
            temporary.replace(folder / f"{state}.npy")
        finally:
            temporary.unlink(missing_ok=True)
        write_atomic(folder / f"{state}.json", json.dumps(names, ensure_ascii=False))
        return cls(names, matrix)


def _state(path: Path, known: Collection[str] | None) -> str:
    """Names a file's state and the words wanted of it."""
    about = path.stat()
    digest = hashlib.sha256(f"{path.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    if known is None:
        digest.update(b"all")
    else:
        digest.update("\0".join(sorted(known)).encode())
    return digest.hexdigest()[:32]


def _cached(folder: Path, state: str) -> tuple[list[str], Matrix] | None:
    try:
        names = json.loads((folder / f"{state}.json").read_text(encoding="utf-8"))
        matrix = np.load(folder / f"{state}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return (names, matrix) if len(names) == len(matrix) else None


def _read(path: Path, known: Collection[str] | None) -> tuple[list[str], Matrix]:
    vectors: dict[str, Matrix] = {}
    size: int | None = None
    with (
        path.open("rb") as file,
        tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name, disable=None, delay=2) as bar,
    ):
        for number, line in enumerate(file, 1):
            bar.update(len(line))
            parts = line.rstrip(b"\r\n ").split(b" ")
            if size is None:
                if len(parts) == 2 and all(part.isdigit() for part in parts):
                    continue
                size = _numbers(parts)
            if len(parts) <= size:
                raise ValueError(f"{path.name}, line {number}: {len(parts) - 1} numbers; expected {size}")
            word = b" ".join(parts[:-size]).decode("utf-8", "replace")
            if known is not None and word not in known:
                continue
            try:
                vectors[word] = np.array(parts[-size:], dtype=np.float32)
            except ValueError:
                raise ValueError(f"{path.name}, line {number}: {word!r} is not followed by {size} numbers") from None
    if not vectors:
        raise ValueError(f"{path.name} has none of the wanted words; is it the file of another language?")
    return list(vectors), np.stack(list(vectors.values()))


def _numbers(parts: list[bytes]) -> int:
    """How many of the last parts are numbers."""
    count = 0
    for part in reversed(parts[1:]):
        try:
            float(part)
        except ValueError:
            break
        count += 1
    return count or 1
