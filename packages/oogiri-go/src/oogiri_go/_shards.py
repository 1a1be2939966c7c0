"""Write the Parquet files of one split."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from ._archive import open_pictures
from ._check import Checked
from ._issue import Defect
from ._picture import plain_bytes
from ._schema import IMAGE, schema
from .runs._atomic import sync_directory

ROWS = 50_000
PICTURE_BYTES = 8 << 20
_DICTIONARY = [
    "type",
    "lang",
    "source",
    "license",
    "group",
    "cluster",
    "question",
    "image_id",
    "image.bytes",
    "image.path",
]


class PictureBytes:
    """The bytes that a build keeps of each picture; the one asked for last is at hand."""

    def __init__(self, images: Path | None, checked: Mapping[str, Checked]) -> None:
        self._pictures = None if images is None else open_pictures(images)
        self._checked = checked
        self._last: tuple[str, dict[str, Any]] | None = None

    def __call__(self, image_id: str | None) -> dict[str, Any] | None:
        """The value of the column ``image``."""
        if image_id is None or self._pictures is None:
            return None
        if self._last is None or self._last[0] != image_id:
            picture = self._checked[image_id].picture
            assert picture is not None, "records with broken pictures were left out"
            try:
                data = plain_bytes(self._pictures.read(image_id), picture)
            except Defect as defect:
                raise ValueError(f"the picture {image_id!r} changed during the build: {defect.message}") from None
            suffix = "jpg" if picture.format == "JPEG" else picture.format.lower() if picture.plain else "png"
            self._last = image_id, {"bytes": data, "path": f"{image_id}.{suffix}"}
        return self._last[1]

    @property
    def present(self) -> bool:
        """Whether the build has pictures at all."""
        return self._pictures is not None

    def close(self) -> None:
        """Close the archive."""
        if self._pictures is not None:
            self._pictures.close()


def write_shard(path: Path, parts: Sequence[Path], pictures: PictureBytes) -> int:
    """Write the rows of some partitions as one Parquet file, on the disk when this returns.

    Row groups are small where there are pictures, so that one of them can be read alone. A picture stands once in a row
    group, in its dictionary, because answers to it are neighbours.

    Returns:
        The number of rows.
    """
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    rows = 0
    temporary = path.with_name(f".tmp-{path.name}")
    target = schema()
    writer = pq.ParquetWriter(
        temporary,
        target,
        compression="zstd",
        use_dictionary=_DICTIONARY,
        dictionary_pagesize_limit=2 * PICTURE_BYTES,
        write_page_index=True,
    )
    with writer:
        for table, images in _row_groups(parts, pictures):
            column = pa.nulls(len(table), IMAGE) if images is None else pa.array(images, IMAGE)
            columns = [column if name == "image" else table.column(name) for name in target.names]
            writer.write_table(pa.table(columns, schema=target))
            rows += len(table)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
    return rows


def _row_groups(
    parts: Sequence[Path], pictures: PictureBytes
) -> Iterator[tuple[pa.Table, list[dict[str, Any] | None] | None]]:
    import pyarrow.feather as feather  # type: ignore[import-untyped]

    for part in parts:
        table = feather.read_table(part, memory_map=False)
        if table.column("image_id").null_count == len(table) or not pictures.present:
            for start in range(0, len(table), ROWS):
                yield table.slice(start, ROWS), None
            continue
        start, size = 0, 0
        images: list[dict[str, Any] | None] = []
        for image_id in table.column("image_id").to_pylist():
            image = pictures(image_id)
            images.append(image)
            size += len(image["bytes"]) if image else 0
            if size >= PICTURE_BYTES or len(images) == ROWS:
                yield table.slice(start, len(images)), images
                start, size, images = start + len(images), 0, []
        if images:
            yield table.slice(start), images
