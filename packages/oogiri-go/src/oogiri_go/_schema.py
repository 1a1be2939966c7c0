"""The columns of a build, as `datasets` and the hub's viewer expect them."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]

from ._record import Record

VERSION = 1

_encode_extra = msgspec.json.Encoder(order="sorted").encode
_decode_extra = msgspec.json.Decoder(dict[str, Any]).decode

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TYPES = {
    "id": pa.string(),
    "type": pa.string(),
    "question": pa.string(),
    "image": IMAGE,
    "image_id": pa.string(),
    "text": pa.string(),
    "star": pa.int64(),
    "lang": pa.string(),
    "source": pa.string(),
    "license": pa.string(),
    "group": pa.string(),
    "cluster": pa.string(),
    "extra": pa.string(),
}
METADATA_COLUMNS = tuple(name for name in _TYPES if name != "image")
RECORD_COLUMNS = tuple(name for name in METADATA_COLUMNS if name not in ("group", "cluster"))


def features() -> dict[str, Any]:
    """The columns as `datasets` describes them."""
    return {
        name: {"_type": "Image"} if name == "image" else {"dtype": str(kind), "_type": "Value"}
        for name, kind in _TYPES.items()
    }


def schema() -> pa.Schema:
    """The Arrow schema, with the metadata by which `datasets` knows that ``image`` is a picture."""
    metadata = {"huggingface": json.dumps({"info": {"features": features()}}), "oogiri_go": str(VERSION)}
    return pa.schema(list(_TYPES.items()), metadata=metadata)


def metadata_table(records: Sequence[Record], groups: Sequence[str], clusters: Sequence[str]) -> pa.Table:
    """Make the columns, without pictures, of records with their groups and clusters."""
    columns: dict[str, Sequence[Any]] = {
        "id": [one.id for one in records],
        "type": [one.type for one in records],
        "question": [one.question for one in records],
        "image_id": [one.image for one in records],
        "text": [one.text for one in records],
        "star": [one.star for one in records],
        "lang": [one.lang for one in records],
        "source": [one.source for one in records],
        "license": [one.license for one in records],
        "group": groups,
        "cluster": clusters,
        "extra": [_encode_extra(one.extra).decode() if one.extra else None for one in records],
    }
    return pa.table({name: pa.array(values, _TYPES[name]) for name, values in columns.items()})


def records_of(table: pa.Table) -> list[Record]:
    """Make the records of a table that has `RECORD_COLUMNS`."""
    extras = [{} if one is None else _decode_extra(one) for one in table.column("extra").to_pylist()]
    lists = [table.column(name).to_pylist() for name in RECORD_COLUMNS[:-1]]
    return list(map(Record, *lists, extras))
