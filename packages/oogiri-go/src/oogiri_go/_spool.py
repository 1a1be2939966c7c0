"""Sort more records than memory holds: into partitions on disk by hash, then each partition on its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ._record import Record


class Row(msgspec.Struct, array_like=True, gc=False):
    """A record on its way through a build."""

    cluster: str
    group: str
    split: int
    record: Record


_IN_MEMORY = 150_000
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode


class Spool:
    """Partitions of rows, on disk as far as they do not fit into memory.

    A row's partition grows with its cluster, so partitions in order are clusters in order.
    """

    def __init__(self, folder: Path, partitions: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._rows: list[list[Row]] = [[] for _ in range(partitions)]
        self._limit = max(64, _IN_MEMORY // partitions)

    def add(self, row: Row) -> None:
        """Add a row; rows of one partition keep their order."""
        partition = int(row.cluster[:8], 16) * len(self._rows) >> 32
        rows = self._rows[partition]
        rows.append(row)
        if len(rows) >= self._limit:
            data = _encode(rows)
            with self._path(partition).open("ab") as file:
                file.write(len(data).to_bytes(8, "little") + data)
            rows.clear()

    def take(self, partition: int) -> Iterator[Row]:
        """Give the rows of a partition, in the order in which they were added, and forget them."""
        path = self._path(partition)
        if path.exists():
            with path.open("rb") as file:
                while head := file.read(8):
                    yield from _decode(file.read(int.from_bytes(head, "little")))
            path.unlink()
        rows, self._rows[partition] = self._rows[partition], []
        yield from rows

    def _path(self, partition: int) -> Path:
        return self._folder / f"{partition:05}.msgpack"
