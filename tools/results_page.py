"""Print every goal of benchmarks/goals/ as met, missed or unmeasured, and render benchmarks/README.md from the rows."""

import json
import math
from pathlib import Path
from typing import Any

import growth
from results_figure import draw
from sail_core.bench import GoalResult, check, read_goals, read_rows, report
from workspace import ROOT, Package, packages

HEAD = """# Benchmarks

Rendered from `results/` by `nox -s bench_check`; `nox -s bench` measures. A ratio is a peer's time divided by ours, in
the same process and run, so it travels better than a time; above 1 is faster than the peer. What was not measured has
no value. Devices: {devices}.

## Where we are ahead, level and behind

Geometric means over the shapes of an operation, without rows of a noisy machine; level is within 5 %. Some peers are
bounds and not rivals: `plain` is the same work without the package, so that 0.97 is a cost of 3 %.
"""
LEVEL = 1.05
CASE = ("op", "mode", "shape", "dtype", "layout", "device", "device_name")


def standings(rows: list[dict[str, Any]]) -> str:
    """Three Markdown cells, ahead, level and behind: for each operation its peers and how the first row compares."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(json.dumps([row[name] for name in CASE]), row)
    groups: dict[tuple[str, str], list[float]] = {}
    for row in first.values():
        if row["noisy"] is False and row["impl"] != "plain" and not row["op"].startswith("growth_"):
            for peer, ratio in (row["peer_ratio"] or {}).items():
                groups.setdefault((row["op"], peer), []).append(ratio)
    cells: dict[str, dict[str, list[str]]] = {"ahead": {}, "level": {}, "behind": {}}
    for (op, peer), found in groups.items():
        mean = math.exp(math.fsum(map(math.log, found)) / len(found))
        where = "ahead" if mean > LEVEL else "behind" if mean < 1 / LEVEL else "level"
        cells[where].setdefault(op, []).append(f"{peer} {mean:,.3g}")
    lines = [[f"**{op}**: {', '.join(peers)}" for op, peers in found.items()] for found in cells.values()]
    return " | ".join("<br>".join(found) or "-" for found in lines)


def goal_table(results: list[GoalResult]) -> str:
    """Markdown: each goal with what was measured, and why where it is not met."""
    lines = ["| goal | status | measured | bound | why |", "| --- | --- | --- | --- | --- |"]
    for one in results:
        value = "null" if one.value is None else f"{one.value:,.4g}"
        why = "; ".join(part for part in (one.note, one.reason if one.status != "met" else "") if part)
        lines.append(f"| {one.name} | {one.status} | {value} | {one.bound:,g} | {why} |")
    return "\n".join(lines)


def section(package: Package, rows: list[dict[str, Any]], results: list[GoalResult], goals: Path) -> str:
    """A package's part of the page: goals, growth, ratios, rows; its figures are written on the way."""
    assets = ROOT / "docs" / "assets" / package.folder
    parts = [f"## {package.folder}\n\n### {package.folder}: goals\n\n{goal_table(results) if results else 'No goals.'}"]
    series = growth.read(rows, goals) if goals.exists() else []
    if series:
        parts.append(f"### {package.folder}: growth with size\n\n{growth.table(series)}")
        if growth.draw(series, assets / "growth.svg"):
            parts.append(f"![Time and peak memory against size](../docs/assets/{package.folder}/growth.svg)")
    compared = [row for row in rows if not row["op"].startswith("growth_")]
    parts.append(f"### {package.folder}: rows")
    if draw(compared, package.module, assets / "benchmarks.svg"):
        parts.append(f"![Ratios](../docs/assets/{package.folder}/benchmarks.svg)")
    parts.append(report(compared) or "Not measured yet.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Check the goals, print them, and write the page with the figures of each package."""
    table = ["| package | goals | ahead | level | behind |", "| --- | --- | --- | --- | --- |"]
    sections, devices = [], dict[str, None]()
    for folder, package in packages().items():
        paths = sorted((ROOT / "benchmarks" / "results" / folder).glob("*.jsonl"))
        rows = read_rows(*(path for path in paths if path.stem != "claims"))
        devices |= dict.fromkeys(f"{row['device']} ({row['device_name']})" for row in rows)
        goals = ROOT / "benchmarks" / "goals" / f"{folder}.toml"
        results = check(rows, read_goals(goals)) if goals.exists() else []
        for result in results:
            print(f"{folder}: {result}")
        counts = {
            status: sum(result.status == status for result in results) for status in ("met", "missed", "unmeasured")
        }
        told = "<br>".join(f"{count} {status}" for status, count in counts.items() if count)
        table.append(f"| [{folder}](#{folder}) | {told} | {standings(rows)} |")
        sections.append(section(package, rows, results, goals))
    text = "\n".join([HEAD.format(devices=", ".join(devices)), *table, "", *sections])
    (ROOT / "benchmarks" / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
