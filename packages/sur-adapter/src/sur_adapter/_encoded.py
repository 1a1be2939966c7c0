"""What is encoded once before training: latents, text states and what else the denoiser reads, in files of rows.

``encoded.json`` says what made them, ``encoded-00000.safetensors`` and so on hold the rows. A file is there whole or
not at all, so that a killed encoding goes on behind the last whole one. The files are mapped, not read.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from sail_core.runs import write_atomic
from torch import Tensor

INDEX = "encoded.json"


class EncodedStore:
    """Rows of tensors by name.

    Args:
        folder: Made when missing.
        facts: What makes the rows, JSON; those in the folder must have been made alike.
        count: Rows there will be.
        shard_rows: Rows of a file.

    Raises:
        ValueError: The folder holds rows that were made otherwise.
    """

    def __init__(
        self, folder: str | os.PathLike[str], facts: Mapping[str, Any], *, count: int, shard_rows: int = 256
    ) -> None:
        self.folder, self.count, self.shard_rows = Path(folder), count, shard_rows
        described = {"format": 1, "count": count, "shard_rows": shard_rows, **facts}
        path = self.folder / INDEX
        if path.exists():
            try:
                there = json.loads(path.read_bytes())
            except ValueError as error:
                raise ValueError(f"{path} is damaged ({error}); delete {folder} to encode again") from error
            for name in sorted(described.keys() | there.keys()):
                if described.get(name) != there.get(name):
                    raise ValueError(
                        f"{folder} was encoded with {name} {there.get(name)!r}, this run has {described.get(name)!r}; "
                        "give another folder, or delete it"
                    )
        else:
            write_atomic(path, json.dumps(described, indent=1) + "\n")
        self._open: dict[int, dict[str, Tensor]] = {}

    @property
    def shards(self) -> int:
        """Files there will be."""
        return -(-self.count // self.shard_rows)

    def rows_of(self, shard: int) -> range:
        """Return the rows of a file."""
        return range(shard * self.shard_rows, min(self.count, (shard + 1) * self.shard_rows))

    def missing(self) -> list[int]:
        """Return the files that are not there yet."""
        return [shard for shard in range(self.shards) if not self._path(shard).exists()]

    def add(self, shard: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a file.

        Raises:
            ValueError: A tensor has another number of rows, or a row is not finite; it is counted from 0.
        """
        rows = self.rows_of(shard)
        for name, value in tensors.items():
            if len(value) != len(rows):
                raise ValueError(f"{name} has {len(value)} rows, file {shard} takes {len(rows)}")
            if value.is_floating_point() and not torch.isfinite(value).all():
                bad = int((~torch.isfinite(value.flatten(1)).all(1)).nonzero()[0])
                raise ValueError(
                    f"{name} of row {rows[bad]} is not finite in {value.dtype}; encode in float32, or leave the row out"
                )
        packed = {name: value.cpu().contiguous() for name, value in tensors.items()}
        write_atomic(self._path(shard), safetensors.torch.save(packed))

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Return rows of every tensor, on the CPU.

        Args:
            rows: ``(B,)`` int64.
        """
        found: dict[str, list[Tensor]] = {}
        for row in rows.tolist():
            shard, place = divmod(row, self.shard_rows)
            for name, value in self._shard(shard).items():
                found.setdefault(name, []).append(value[place])
        return {name: torch.stack(values) for name, values in found.items()}

    def _shard(self, shard: int) -> dict[str, Tensor]:
        if shard not in self._open:
            path = self._path(shard)
            try:
                with safe_open(path, framework="pt") as file:
                    self._open[shard] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path} is missing or damaged ({error}); delete it and start again") from error
        return self._open[shard]

    def _path(self, shard: int) -> Path:
        return self.folder / f"encoded-{shard:05d}.safetensors"
