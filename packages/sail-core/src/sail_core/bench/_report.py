"""Benchmark rows as Markdown tables."""

import math
from collections.abc import Sequence

from ._rows import Row, case_key


def report(rows: Sequence[Row]) -> str:
    """Lay rows out as Markdown: a table for each operation and mode, one line a case, then the means over cases.

    Times are medians in microseconds; a ratio is the peer's time divided by the first implementation's. ``wrong`` marks
    an implementation that failed its check, ``~`` a case measured on a noisy machine, ``-`` what was not measured.

    Args:
        rows: Rows as ``compare`` or ``read_rows`` gives them.

    Returns:
        The text, without a trailing newline; empty without rows.
    """
    groups: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault((row["op"], row["mode"]), {}).setdefault(case_key(row), []).append(row)
    parts = [f"**{op}**, {mode}\n\n{_operation(list(cases.values()))}" for (op, mode), cases in groups.items()]
    return "\n\n".join(parts)


def _operation(cases: Sequence[Sequence[Row]]) -> str:
    """The table of one operation: only the implementations, peers and columns that it has."""
    names = list(dict.fromkeys(row["impl"] for case in cases for row in case))
    peers = list(dict.fromkeys(name for case in cases for name in case[0]["peer_ratio"] or {}))
    has = {
        name: any(row[name] is not None for case in cases for row in case) for name in ("frac_ceiling", "peak_bytes")
    }
    head = [
        "shape",
        "dtype",
        "layout",
        "device",
        *(f"{name} (µs)" for name in names),
        *(f"vs {peer}" for peer in peers),
    ]
    head += ["of copy rate"] * has["frac_ceiling"] + ["peak (MB)"] * has["peak_bytes"]
    body = []
    for case in cases:
        first, times = case[0], {row["impl"]: _time(row) for row in case}
        ratios = first["peer_ratio"] or {}
        line = ["x".join(map(str, first["shape"])), first["dtype"], first["layout"], first["device"]]
        line += [times.get(name, "-") for name in names]
        line += [f"{ratios[peer]:.2f}" if peer in ratios else "-" for peer in peers]
        if has["frac_ceiling"]:
            line.append("-" if first["frac_ceiling"] is None else f"{first['frac_ceiling']:.0%}")
        if has["peak_bytes"]:
            line.append("-" if first["peak_bytes"] is None else f"{first['peak_bytes'] / 1e6:.1f}")
        body.append(line)
    if len(cases) > 1 and peers:
        found = [
            [case[0]["peer_ratio"][peer] for case in cases if peer in (case[0]["peer_ratio"] or {})] for peer in peers
        ]
        means = [f"{math.exp(math.fsum(map(math.log, ratios)) / len(ratios)):.2f}" for ratios in found]
        body.append(["geometric mean", *[""] * (3 + len(names)), *means, *[""] * sum(has.values())])
    return _table(head, body)


def _time(row: Row) -> str:
    if not row["correct"]:
        return "wrong"
    return "-" if row["median_us"] is None else f"{'~' if row['noisy'] else ''}{row['median_us']:.1f}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
