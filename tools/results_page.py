"""Print every goal of benchmarks/goals/ as met, missed or unmeasured, and render benchmarks/README.md from the rows."""

from results_figure import draw
from sail_core.bench import check, read_goals, read_rows, report
from workspace import ROOT, packages

HEAD = """# Benchmarks

Rendered from `results/` by `nox -s bench_check`; `nox -s bench` measures. A ratio compares with a peer in the same
process and run, so it travels better than a time; above 1 is faster than the peer. What was not measured has no value.
"""


def main() -> None:
    """Check the goals, print them, and write the page with a figure for each package."""
    parts = [HEAD]
    for folder, package in packages().items():
        paths = sorted((ROOT / "benchmarks" / "results" / folder).glob("*.jsonl"))
        rows = read_rows(*(path for path in paths if path.stem != "claims"))
        goals = ROOT / "benchmarks" / "goals" / f"{folder}.toml"
        results = check(rows, read_goals(goals)) if goals.exists() else []
        for result in results:
            print(f"{folder}: {result}")
        listed = "\n".join(f"- {result}" for result in results) or "No goals."
        measured = "Not measured yet."
        if rows:
            drawn = draw(rows, package.module, ROOT / "docs" / "assets" / folder / "benchmarks.svg")
            figure = f"![Ratios](../docs/assets/{folder}/benchmarks.svg)\n\n" if drawn else ""
            measured = f"{figure}{report(rows)}"
        parts.append(f"## {folder}\n\n### Goals\n\n{listed}\n\n### Rows\n\n{measured}\n")
    (ROOT / "benchmarks" / "README.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
