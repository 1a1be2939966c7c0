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


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode


class Spool:
    """Partitions of rows. A row's partition grows with its cluster, so partitions in order are clusters in order."""

    def __init__(self, folder: Path, partitions: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._rows: list[list[Row]] = [[] for _ in range(partitions)]
        self._limit = max(256, 20_000 // partitions)

    def add(self, row: Row) -> None:
        """Add a row; rows of one partition keep their order."""
        partition = int(row.cluster[:8], 16) * len(self._rows) >> 32
        rows = self._rows[partition]
        rows.append(row)
        if len(rows) >= self._limit:
            self._flush(partition)

    def close(self) -> None:
        """Write what is still in memory."""
        for partition in range(len(self._rows)):
            self._flush(partition)

    def partition(self, number: int) -> list[Row]:
        """The rows of a partition, in the order in which they were added."""
        return [row for rows in self._batches(number) for row in rows]

    def _batches(self, number: int) -> Iterator[list[Row]]:
        path = self._path(number)
        if not path.exists():
            return
        with path.open("rb") as file:
            while head := file.read(8):
                yield _decode(file.read(int.from_bytes(head, "little")))

    def _flush(self, partition: int) -> None:
        rows = self._rows[partition]
        if rows:
            data = _encode(rows)
            with self._path(partition).open("ab") as file:
                file.write(len(data).to_bytes(8, "little") + data)
            rows.clear()

    def _path(self, partition: int) -> Path:
        return self._folder / f"{partition:05}.msgpack"
