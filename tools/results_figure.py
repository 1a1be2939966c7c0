"""Draw a package's benchmark rows: for every case, how many times faster it is than each peer."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from sail_core.report import figure_style

MARKERS = "osD^v<>ph*XPd"


def draw(rows: list[dict[str, Any]], ours: str, path: Path) -> bool:
    """Write an SVG with one line a case and one marker a peer, unless no quiet case has a peer; say whether it did."""
    cases = [row for row in rows if row["impl"] == ours and row["peer_ratio"] and row["noisy"] is False]
    if not cases:
        return False
    peers = list(dict.fromkeys(peer for row in cases for peer in row["peer_ratio"]))
    names = [f"{row['op']}  {'x'.join(map(str, row['shape']))}  {row['layout']}  {row['device']}" for row in cases]
    with figure_style(), matplotlib.rc_context({"svg.hashsalt": "sail", "svg.fonttype": "path"}):
        lines = -(-len(peers) // 3)
        figure = Figure(figsize=(8.4, 1.2 + 0.26 * len(cases) + 0.24 * lines))
        axes = figure.subplots()
        for peer, marker in zip(peers, MARKERS * len(peers), strict=False):
            points = [(row["peer_ratio"][peer], y) for y, row in enumerate(cases) if peer in row["peer_ratio"]]
            axes.plot(*zip(*points, strict=True), marker, markersize=6, label=f"against {peer}")
        axes.axvline(1, color="0.4", linewidth=1)
        axes.set_yticks(range(len(cases)), names)
        axes.set_ylim(len(cases) - 0.4, -0.6)
        axes.set_xlabel("time of the peer / time of ours")
        if max(ratio for row in cases for ratio in row["peer_ratio"].values()) > 20:
            axes.set_xscale("log")
        figure.legend(ncols=3, loc="outside lower center", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
    return True
