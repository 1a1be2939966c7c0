"""How time and memory grow with size: exponents from the rows of `growth_*`, a table and a figure for each package."""

import math
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from sail_core.report import figure_style

Row = dict[str, Any]


@dataclass(frozen=True)
class Growth:
    """One series of sizes: the exponents expected, and points (size, microseconds, bytes or None) of ours."""

    name: str
    unit: str
    expected: tuple[float | None, float | None]
    points: list[tuple[int, float, int | None]]

    def times(self) -> list[tuple[float, float]]:
        """Sizes and microseconds."""
        return [(size, time) for size, time, _ in self.points]

    def memory(self) -> list[tuple[float, float]]:
        """Sizes and bytes, without what was not measured or is nothing."""
        return [(size, held) for size, _, held in self.points if held]


def exponent(points: list[tuple[float, float]]) -> float | None:
    """Slope of log y over log x by least squares, over the upper half of the sizes and at least three of them."""
    points = sorted(points)[-max(3, -(-len(points) // 2)) :]
    if len(points) < 3:
        return None
    x, y = zip(*((math.log(a), math.log(b)) for a, b in points), strict=True)
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    above = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / math.fsum((a - mean_x) ** 2 for a in x)


def read(rows: list[Row], goals: Path) -> list[Growth]:
    """The series that `[[growth]]` tables of the goals name, in their order, empty where nothing was measured."""
    found = []
    for table in tomllib.loads(goals.read_text(encoding="utf-8")).get("growth", []):
        of_op = [row for row in rows if row["op"] == table["op"] and row["correct"] and row["median_us"] is not None]
        ours = [row for row in of_op if row["impl"] == of_op[0]["impl"]]
        points = sorted((row["shape"][0], row["median_us"], row["peak_bytes"]) for row in ours)
        unit = ours[0]["layout"] if ours else "size"
        found.append(Growth(table["name"], unit, (table.get("time"), table.get("memory")), points))
    return found


def table(series: list[Growth]) -> str:
    """Markdown: sizes, exponents measured and expected, and the cost at the largest size."""
    lines = [
        "| what grows | sizes | time exponent (expected) | memory exponent (expected) | at the largest |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in series:
        sizes = f"{one.points[0][0]:,} - {one.points[-1][0]:,} {one.unit}" if one.points else "not measured"
        exponents = [
            f"{'-' if measured is None else f'{measured:.2f}'} ({'-' if expected is None else f'{expected:g}'})"
            for measured, expected in zip((exponent(one.times()), exponent(one.memory())), one.expected, strict=True)
        ]
        largest = f"{one.points[-1][1] / 1e3:,.1f} ms" if one.points else "-"
        if one.points and one.points[-1][2]:
            largest += f", {one.points[-1][2] / 1e6:,.1f} MB"
        lines.append(f"| {one.name} | {sizes} | {' | '.join(exponents)} | {largest} |")
    return "\n".join(lines)


def draw(series: list[Growth], path: Path) -> bool:
    """Write an SVG with one panel a series, time and memory on logarithmic axes; say whether there was anything."""
    series = [one for one in series if one.points]
    if not series:
        return False
    with figure_style(), matplotlib.rc_context({"svg.hashsalt": "sail", "svg.fonttype": "path"}):
        columns = min(3, len(series))
        lines = -(-len(series) // columns)
        figure = Figure(figsize=(3.6 * columns, 3.1 * lines))
        panels = figure.subplots(lines, columns, squeeze=False).flat
        for one, axes in zip(series, panels, strict=False):
            sizes, times = zip(*one.times(), strict=True)
            axes.loglog(sizes, [time / 1e3 for time in times], "o-", markersize=4, label="time (ms)")
            if held := one.memory():
                axes.loglog(
                    [size for size, _ in held],
                    [value / 1e6 for _, value in held],
                    "s--",
                    markersize=4,
                    label="peak (MB)",
                )
            axes.set_title(textwrap.fill(one.name, 44), fontsize=9)
            axes.set_xlabel(one.unit)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(LogLocator(numticks=6))
                axis.set_minor_formatter(NullFormatter())
            axes.legend(fontsize=8)
        for axes in list(panels):
            axes.set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
    return True
