"""Look up the teacher's vector of a text on the disk.

A cache is a folder: ``index.json`` says what made it, ``teacher-00000.safetensors`` and so on hold a tensor ``emb``
(n, dim) and the ``keys`` (n, 32) of the texts, see `text_key`. With pooling ``"tokens"`` a text has several rows, and
``offsets`` (n + 1) says where they begin. The files are mapped, so that a look-up reads one row.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ._text_key import text_key

INDEX, FORMAT = "index.json", 1


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """What made the vectors of a cache; all of them were made alike.

    Attributes:
        model: The language model, as it was named.
        layer: ``"k"`` or ``"k:raw"``.
        pooling: ``"last"``, ``"mean"``, ``"eos"``, ``"tokens"``, or None where it is not known.
        dtype: Of the stored vectors, such as ``"float16"``.
        dim: Their width.
        revision: Of the model on its hub, or None.
        tokenizer: SHA-256 of the tokenizer, or None.
        max_length: Tokens after which texts were cut, or None.
    """

    model: str
    layer: str
    pooling: str | None
    dtype: str
    dim: int
    revision: str | None = None
    tokenizer: str | None = None
    max_length: int | None = None


class TeacherCache:
    """The teacher's vectors of texts, read from a folder that ``encode-teacher`` wrote.

    Args:
        folder: The folder.
        model: The model that must have made it; None takes any.
        dim: The width that the vectors must have; None takes any.

    Attributes:
        facts: What made the vectors.

    Raises:
        FileNotFoundError: There is no cache.
        ValueError: It is damaged, of another model or of another width.

    Example:
        >>> import tempfile
        >>> from sur_adapter._teacher_store import TeacherStore
        >>> facts = TeacherFacts(model="a", layer="-1", pooling="mean", dtype="float32", dim=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     TeacherStore(folder, facts).add(["a cat"], torch.tensor([[1.0, 2.0]]))
        ...     print(TeacherCache(folder)["a cat"])
        tensor([1., 2.])
    """

    def __init__(self, folder: str | os.PathLike[str], *, model: str | None = None, dim: int | None = None) -> None:
        self.folder = Path(folder)
        self.facts, shards = read_index(self.folder)
        if model is not None and model != self.facts.model:
            raise ValueError(f"{folder} was made by {self.facts.model}, not by {model}; encode with that model")
        if dim is not None and dim != self.facts.dim:
            raise ValueError(f"{folder} holds vectors of width {self.facts.dim}, expected {dim}; use another cache")
        self._rows: dict[bytes, tuple[Tensor, int, int]] = {}
        for name, count in shards:
            self._open(name, count)

    def _open(self, name: str, count: int) -> None:
        path = self.folder / name
        try:
            with safe_open(path, framework="pt") as file:
                emb, keys = file.get_tensor("emb"), file.get_tensor("keys").numpy().tobytes()
                ends = file.get_tensor("offsets").tolist() if "offsets" in file.keys() else range(len(emb) + 1)  # noqa: SIM118
        except FileNotFoundError:
            raise ValueError(f"{path} is missing, index.json lists it; run encode-teacher again") from None
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); delete it and run encode-teacher again") from error
        if len(keys) != 32 * count or len(ends) != count + 1 or emb.shape[1:] != (self.facts.dim,):
            raise ValueError(
                f"{path} holds {len(keys) // 32} vectors of shape {tuple(emb.shape)}, index.json says {count} of width "
                f"{self.facts.dim}; delete it and run encode-teacher again"
            )
        for row in range(count):
            self._rows[keys[32 * row : 32 * row + 32]] = (emb, ends[row], ends[row + 1])

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, text: str) -> bool:
        return text_key(text) in self._rows

    def __getitem__(self, text: str) -> Tensor:
        """Return the vector of a text ``(dim,)``, or its tokens ``(n, dim)``; it shares the file's memory.

        Raises:
            ValueError: The text is not in the cache.
        """
        try:
            emb, start, end = self._rows[text_key(text)]
        except KeyError:
            raise _missing([text], 1, self.folder) from None
        return emb[start:end] if self.facts.pooling == "tokens" else emb[start]

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Return the texts that are not in the cache, in order, each once."""
        return list(dict.fromkeys(text for text in texts if text not in self))

    def require(self, texts: Sequence[str]) -> None:
        """Check that the cache holds a vector for each of many texts.

        Raises:
            ValueError: Some are not in the cache (counted, the first named), or it holds a vector for each token.
        """
        if self.facts.pooling == "tokens":
            raise ValueError(f"{self.folder} holds a vector for each token; encode with pooling 'mean' or 'last'")
        if missing := self.missing(texts):
            raise _missing(missing, len(set(texts)), self.folder)

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of many texts ``(len(texts), dim)``.

        Raises:
            ValueError: See `require`.
        """
        self.require(texts)
        if not texts:
            return torch.empty(0, self.facts.dim)
        return torch.stack([self[text] for text in texts])


def read_index(folder: Path) -> tuple[TeacherFacts, list[tuple[str, int]]]:
    """Read what made a cache, and its files with their counts."""
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {INDEX}: it is no teacher cache; encode-teacher makes one")
    try:
        index = json.loads(path.read_bytes())
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']}, this version reads {FORMAT}")
        shards = [(str(shard["file"]), int(shard["count"])) for shard in index["shards"]]
        if wrong := [name for name, _ in shards if Path(name).name != name]:
            raise ValueError(f"it names a file outside the folder: {wrong[0]}")
        return TeacherFacts(**index["teacher"]), shards
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no index of a teacher cache ({error}); run encode-teacher again") from error


def index_json(facts: TeacherFacts, shards: Sequence[tuple[str, int]]) -> str:
    """Write down what made a cache, and its files with their counts."""
    listed: list[dict[str, Any]] = [{"file": name, "count": count} for name, count in shards]
    count = sum(one for _, one in shards)
    return json.dumps({"format": FORMAT, "teacher": asdict(facts), "count": count, "shards": listed}, indent=1) + "\n"


def _missing(texts: Sequence[str], total: int, folder: Path) -> ValueError:
    first = texts[0] if len(texts[0]) <= 80 else f"{texts[0][:77]}..."
    return ValueError(
        f"{len(texts)} of {total} prompts are not in {folder}; first: {first!r}; run encode-teacher on them"
    )
