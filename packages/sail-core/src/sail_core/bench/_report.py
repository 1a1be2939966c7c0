"""Benchmark rows as Markdown tables."""

import math
from collections.abc import Sequence

from ._rows import Row, case_key


def report(rows: Sequence[Row]) -> str:
    """Lay rows out as Markdown: one line for each case, then the geometric means.

    Times are medians in microseconds; a ratio is the peer's time divided by the first implementation's. ``wrong`` marks
    an implementation that failed its check, ``~`` a case measured on a noisy machine, ``-`` what was not measured.

    Args:
        rows: Rows as ``compare`` or ``read_rows`` gives them.

    Returns:
        The text, without a trailing newline.
    """
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(case_key(row), []).append(row)
    names = list(dict.fromkeys(row["impl"] for row in rows))
    peers = list(dict.fromkeys(name for case in cases.values() for name in case[0]["peer_ratio"] or {}))
    head = ["op", "mode", "shape", "dtype", "layout", "device", *(f"{name} (µs)" for name in names)]
    head += [*(f"vs {peer}" for peer in peers), "of copy rate"]
    body: list[list[str]] = []
    groups: dict[tuple[str, ...], list[float]] = {}
    for case in cases.values():
        first, times = case[0], {row["impl"]: _time(row) for row in case}
        ratios = first["peer_ratio"] or {}
        label = [first["op"], first["mode"], "x".join(map(str, first["shape"])), first["dtype"], first["layout"]]
        share = "-" if first["frac_ceiling"] is None else f"{first['frac_ceiling']:.0%}"
        cells = [f"{ratios[peer]:.2f}" if peer in ratios else "-" for peer in peers]
        body.append([*label, first["device"], *(times.get(name, "-") for name in names), *cells, share])
        for peer, ratio in ratios.items():
            group = (first["op"], first["mode"], first["dtype"], first["layout"], first["device"], peer)
            groups.setdefault(group, []).append(ratio)
    means = [
        [*group, str(len(ratios)), f"{math.exp(math.fsum(map(math.log, ratios)) / len(ratios)):.2f}"]
        for group, ratios in groups.items()
    ]
    second = _table(["op", "mode", "dtype", "layout", "device", "peer", "cases", "geometric mean"], means)
    return _table(head, body) + "\n\n" + second


def _time(row: Row) -> str:
    if not row["correct"]:
        return "wrong"
    return "-" if row["median_us"] is None else f"{'~' if row['noisy'] else ''}{row['median_us']:.1f}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
