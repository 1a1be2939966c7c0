"""Write a teacher cache, shard by shard; a kill at any moment loses at most the shard being made."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from sail_core.runs import write_atomic
from torch import Tensor

from ._teacher_cache import INDEX, TeacherCache, TeacherFacts, index_json, read_index
from ._text_key import text_key


class TeacherStore:
    """A cache to add to; an existing folder is continued.

    Args:
        folder: Made when missing.
        facts: What makes the vectors; those in the folder must have been made alike.

    Raises:
        ValueError: The folder holds vectors that were made otherwise, or is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: TeacherFacts) -> None:
        self.folder, self.facts = Path(folder), facts
        self._shards: list[tuple[str, int]] = []
        if (self.folder / INDEX).exists():
            there, self._shards = read_index(self.folder)
            for name, mine in asdict(facts).items():
                if (other := getattr(there, name)) != mine:
                    raise ValueError(
                        f"{folder} was made with {name} {other!r}, this run has {mine!r}; use another folder"
                    )
        else:
            self._write_index()

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Return the texts that are not in the cache yet, in order, each once."""
        return TeacherCache(self.folder).missing(texts)

    def add(self, texts: Sequence[str], vectors: Tensor | Sequence[Tensor]) -> None:
        """Add a shard; it is on the disk when this returns.

        Args:
            texts: As many as there are vectors.
            vectors: ``(n, dim)``, or with pooling ``"tokens"`` one ``(n_i, dim)`` for each text.

        Raises:
            ValueError: Shapes do not fit, or a vector is not finite in the cache's dtype; the text is named.
        """
        parts = [one if one.ndim == 2 else one[None] for one in vectors]
        if len(parts) != len(texts) or any(one.shape[1:] != (self.facts.dim,) for one in parts):
            raise ValueError(f"{len(texts)} texts need as many vectors of width {self.facts.dim}, {len(parts)} came")
        if not parts:
            return
        dtype: torch.dtype = getattr(torch, self.facts.dtype)
        emb = torch.cat(parts).to("cpu", dtype)
        lengths = torch.tensor([0, *(len(one) for one in parts)])
        finite = torch.isfinite(emb).all(1)
        if not finite.all():
            row = int((~finite).nonzero()[0])
            text = texts[int((lengths.cumsum(0)[1:] <= row).sum())]
            raise ValueError(
                f"the vector of {text!r} is not finite in {self.facts.dtype}; choose a wider dtype or another layer"
            )
        keys = torch.frombuffer(bytearray(b"".join(map(text_key, texts))), dtype=torch.uint8).view(-1, 32)
        tensors = {"emb": emb.contiguous(), "keys": keys}
        if self.facts.pooling == "tokens":
            tensors["offsets"] = lengths.cumsum(0)
        name = f"teacher-{len(self._shards):05d}.safetensors"  # a shard that a kill left without an entry goes under
        write_atomic(self.folder / name, safetensors.torch.save(tensors))
        self._shards.append((name, len(texts)))
        self._write_index()

    def _write_index(self) -> None:
        write_atomic(self.folder / INDEX, index_json(self.facts, self._shards))
