"""A build as a map-style dataset, for code that wants one record by its number."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa  # type: ignore[import-untyped]

from ._card import read_manifest
from ._picture import open_rgb
from ._record import GAMES, Record, language
from ._schema import METADATA_COLUMNS, VERSION, records_of
from ._split import SPLITS

if TYPE_CHECKING:
    from PIL import Image

_BATCH = 4096


class OogiriDataset(Sequence[Record]):
    """One split of a build, held in memory without its pictures, which are read when asked for.

    Streaming, shuffling, sharding and resuming are what `datasets` does with the same directory. Instances can be
    pickled and used from the workers of a data loader.

    Args:
        path: A directory that `build` made.
        lang: A language of `language`, several of them, or None for all.
        game: ``"T2T"``, ``"I2T"`` or ``"IT2T"``, several of them, or None for all.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Raises:
        FileNotFoundError: There is no build.
        ValueError: An argument has no such value, or the build is of another version.

    Example:
        >>> import tempfile
        >>> from oogiri_go import build
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     source = Path(folder, "en.jsonl")
        ...     _ = source.write_text('{"type":"T2T","question":"Why?","image":null,"text":"Why not?","star":5}')
        ...     _ = build(source, out=Path(folder, "oogiri"), ratios=(1, 0, 0))
        ...     dataset = OogiriDataset(Path(folder, "oogiri"), lang="en")
        >>> len(dataset), dataset[0].text, dataset.image(0)
        (1, 'Why not?', None)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lang: str | Sequence[str] | None = None,
        game: str | Sequence[str] | None = None,
        split: str = "train",
    ) -> None:
        import pyarrow.compute as pc  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        manifest = read_manifest(path)
        if manifest["schema"] != VERSION:
            raise ValueError(f"the build has schema {manifest['schema']}, this version reads {VERSION}; build it anew")
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
        languages = None if lang is None else {language(one) for one in _several(lang)}
        games = None if game is None else set(_several(game))
        if games is not None and not games <= set(GAMES):
            raise ValueError(f"game is {game!r}; expected among {', '.join(GAMES)}")
        self._files = [Path(path) / one["path"] for one in manifest["shards"] if one["split"] == split]
        tables = [pq.read_table(file, columns=list(METADATA_COLUMNS), use_threads=False) for file in self._files]
        table = pa.concat_tables(tables).replace_schema_metadata(None)
        rows = pa.array(range(len(table)), pa.int64())
        table = table.append_column("row", rows)
        for column, values in (("lang", languages), ("type", games)):
            if values is not None:
                table = table.filter(pc.is_in(table.column(column), pa.array(sorted(values))))
        self._table = table.combine_chunks()
        self._forget()

    def _forget(self) -> None:
        self._places: list[tuple[int, int, int]] | None = None
        self._group: tuple[tuple[int, int], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files, "_table": self._table}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """Give one record, or a list of them for a slice."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return records_of(self._table.slice(start, max(0, stop - start)))
            return records_of(self._table.take(pa.array(range(start, stop, step), pa.int64())))
        return records_of(self._table.slice(self._number(index), 1))[0]

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), _BATCH):
            yield from records_of(self._table.slice(start, _BATCH))

    @property
    def table(self) -> pa.Table:
        """The columns without pictures, as an Arrow table, for whoever wants columns instead of records."""
        return self._table.drop_columns(["row"])

    @property
    def groups(self) -> list[str]:
        """The prompt of each record, as `group_key` names it."""
        found: list[str] = self._table.column("group").to_pylist()
        return found

    def image(self, index: int) -> "Image.Image | None":
        """Decode the picture of a record.

        Args:
            index: The record's number.

        Returns:
            A picture in mode RGB, or None where the record or the build has none.
        """
        data = self.image_bytes(index)
        return None if data is None else open_rgb(data)

    def image_bytes(self, index: int) -> bytes | None:
        """Read the encoded picture of a record.

        Args:
            index: The record's number.

        Returns:
            The bytes of a JPEG, PNG, WebP or GIF file, or None where the record or the build has none.
        """
        import pyarrow.parquet as pq

        number = self._number(index)
        if self._table.column("image_id")[number].as_py() is None:
            return None
        row = self._table.column("row")[number].as_py()
        file, group, first = self._place(row)
        if self._group is None or self._group[0] != (file, group):
            with pq.ParquetFile(self._files[file]) as parquet:
                column = parquet.read_row_group(group, columns=["image"], use_threads=False).column("image")
            self._group = (file, group), column
        value = self._group[1][row - first].as_py()
        return None if value is None else value["bytes"]

    def _place(self, row: int) -> tuple[int, int, int]:
        """The file and row group of a row of the whole split, and the first row of that group."""
        import pyarrow.parquet as pq

        if self._places is None:
            self._places, first = [], 0
            for file, path in enumerate(self._files):
                metadata = pq.read_metadata(path)
                for group in range(metadata.num_row_groups):
                    self._places.append((file, group, first))
                    first += metadata.row_group(group).num_rows
        low, high = 0, len(self._places)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._places[middle][2] <= row else (low, middle)
        return self._places[low]

    def _number(self, index: int) -> int:
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"there is no record {index}; the dataset has {len(self)}")
        return number


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
