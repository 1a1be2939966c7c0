"""Benchmark rows: one JSON object a line, every field always present, null where a thing was not measured."""

import json
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sail_core.runs import env_report

Row = dict[str, Any]

SCHEMA = 1
CASE = ("op", "mode", "shape", "dtype", "layout", "device", "device_name")
FIELDS = (
    *("schema", "op", "impl", "impl_version", "mode", "shape", "dtype", "layout", "nbytes"),
    *("device", "device_name", "torch", "triton", "commit", "dirty", "threads"),
    *("rep", "median_us", "p20_us", "p80_us", "first_us", "host_us", "graph_us", "peak_bytes"),
    *("model_bytes", "gbps", "ceiling_gbps", "frac_ceiling", "launches", "energy_uj", "power_src"),
    *("correct", "rel_err", "noisy", "peer_ratio", "order"),
)


def make_row(op: str, impl: str, *, device: str = "cpu", **fields: Any) -> Row:
    """One row of what ``compare`` does not measure, such as a memory or a latency under load.

    Args:
        op: What was done.
        impl: What did it.
        device: ``"cpu"`` or ``"cuda"``.
        **fields: Any other field of a row; what is not given is null, the provenance is filled in.

    Returns:
        The row, for ``append_rows``.

    Raises:
        ValueError: If the schema does not know a field.

    Example:
        >>> row = make_row("push", "cem_mhch", mode="p99", shape=[1, 1], median_us=370.1)
        >>> row["mode"], row["peak_bytes"], row["schema"]
        ('p99', None, 1)
    """
    unknown = fields.keys() - set(FIELDS)
    if unknown:
        raise ValueError(f"rows have no field {', '.join(sorted(unknown))}")
    return dict.fromkeys(FIELDS) | provenance(device) | {"schema": SCHEMA, "op": op, "impl": impl} | fields


def append_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Append rows to a JSON-lines file, which is created with its folder if missing.

    Args:
        path: File to append to.
        rows: Rows as ``compare`` gives them.

    Raises:
        ValueError: If a row lacks a field or has one the schema does not know.
    """
    lines = []
    for row in rows:
        if set(row) != set(FIELDS):
            raise ValueError(f"the row's fields differ from the schema's in {sorted(set(row) ^ set(FIELDS))}")
        lines.append(json.dumps({name: row[name] for name in FIELDS}, allow_nan=False) + "\n")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def read_rows(*paths: str | Path) -> list[Row]:
    """Read JSON-lines files of benchmark rows and keep the newest row of each case and implementation.

    Args:
        *paths: Files, older ones first.

    Returns:
        The rows, in the order in which their cases first appear.

    Raises:
        ValueError: If a line is not a row of this schema; file and line are named.
    """
    newest: dict[str, Row] = {}
    for path in paths:
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
                known = row["schema"] == SCHEMA and set(row) == set(FIELDS)
            except (ValueError, TypeError, KeyError):
                known = False
            if not known:
                raise ValueError(f"{path}, line {number}: not a benchmark row of schema {SCHEMA}")
            newest[json.dumps([row[name] for name in (*CASE, "impl")])] = row
    return list(newest.values())


def case_key(row: Row) -> str:
    """What a row measures, without the implementation."""
    return json.dumps([row[name] for name in CASE])


def provenance(device: str) -> Row:
    """The fields that say where and with what a row was measured."""
    environment = env_report()
    return {
        "device": device,
        "device_name": environment["cuda" if device == "cuda" else "cpu"],
        "triton": _installed("triton"),
        **{name: environment[name] for name in ("torch", "commit", "dirty", "threads")},
    }


def nbytes(shape: Sequence[int], dtype: str) -> int | None:
    """Bytes of one tensor, None where ``dtype`` is not the name of a torch dtype."""
    kind = getattr(torch, dtype, None)
    return torch.Size(shape).numel() * kind.itemsize if isinstance(kind, torch.dtype) else None


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
