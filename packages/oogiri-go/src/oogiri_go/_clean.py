"""One partition of a build: sorted, without duplicates, as a file of columns for each split."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ._check import Checked
from ._dedup import NearIndex
from ._groups import fold
from ._minhash import grams
from ._schema import metadata_table
from ._split import SPLITS
from ._spool import Row


def clean_partition(
    rows: Iterable[Row], folder: Path, number: int, *, near: float | None, checked: Mapping[str, Checked]
) -> dict[str, Any]:
    """Write the rows that stay, sorted by cluster, and count.

    Args:
        rows: All rows of the partition, in the order of their sources.
        folder: Receives ``<split>-<number>.arrow``.
        number: Which partition it is.
        near: As in `dedup`.
        checked: The pictures, for their sizes.

    Returns:
        ``exact`` and ``near``, duplicates left out, and for each split ``rows``, ``bytes`` and ``counts`` by language
        and game.
    """
    kept: tuple[list[Row], ...] = tuple([] for _ in SPLITS)
    dropped = {"exact": 0, "near": 0}
    seen: set[str] = set()
    index = None if near is None else NearIndex(near)
    for row in rows:
        record = row.record
        key = row.group + record.lang + fold(record.text)  # the first two have a fixed length
        if key in seen:
            dropped["exact"] += 1
            continue
        seen.add(key)
        if index is not None:
            place, members = f"{record.lang}:{row.group}", grams(record.text)
            if index.find(place, members) is not None:
                dropped["near"] += 1
                continue
            index.add(place, members, record)
        kept[row.split].append(row)
    return {
        **dropped,
        "splits": {
            name: _write(rows, folder / f"{name}-{number:05}.arrow", checked)
            for name, rows in zip(SPLITS, kept, strict=True)
        },
    }


def _write(rows: list[Row], path: Path, checked: Mapping[str, Checked]) -> dict[str, Any]:
    import pyarrow.compute as pc  # type: ignore[import-untyped]
    import pyarrow.feather as feather  # type: ignore[import-untyped]

    table = metadata_table([row.record for row in rows], [row.group for row in rows], [row.cluster for row in rows])
    order = pc.sort_indices(
        table, [("cluster", "ascending"), ("group", "ascending")]
    )  # stable: answers keep their order
    table = table.take(order)
    feather.write_feather(table, path, compression="uncompressed")
    pictures = {row.record.image for row in rows if row.record.image is not None} if checked else set()
    counted = table.group_by(["lang", "type"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    return {
        "rows": len(rows),
        "bytes": table.nbytes + sum(checked[one].size for one in pictures),
        "prompts": len({row.group for row in rows}),
        "counts": {f"{one['lang']} {one['type']}": one["count_all"] for one in counted},
    }
