"""Tables of what run_claims.py found: summarise_claims.py ROWS.jsonl..., as Markdown.

Folds of a seed are pooled: macro-F1 and F1 from the summed confusion counts, GT as the mean over dialogues, AUC as the
mean over folds. Intervals are paired Student-t intervals over the seeds that both sides have.
"""

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sail_core.report import Verdict, verdict

COMPARISONS = (
    ("cem", "tfidf"),
    ("cem", "tfidf_plain"),
    ("cem", "tfidf_tuned"),
    ("cem", "host"),
    ("mtl", "host"),
    ("state", "mtl"),
    ("cost", "mtl"),
    ("cem", "mtl"),
)
Table = dict[tuple[str, str], dict[int, dict[str, float]]]


def pool(rows: Sequence[dict[str, Any]], part: str) -> dict[str, float]:
    """All folds of one seed as one test."""
    counts = [sum(row[part]["confusion"][cell] for row in rows) for cell in range(4)]
    (right, false, missed, found) = counts
    f1, rest = (2 * hit / (2 * hit + false + missed) for hit in (found, right))
    dialogues = [row[part]["dialogues"] for row in rows]
    pooled = {"macro_f1": (f1 + rest) / 2, "f1": f1, "auc": statistics.fmean(row[part]["auc"] for row in rows)}
    for name in ("gt1", "gt2", "gt3"):
        total = sum(row[part][name] * size for row, size in zip(rows, dialogues, strict=True))
        pooled[name] = total / sum(dialogues)
    return pooled | {"error_cost": float(false)}


def tabulate(rows: Iterable[dict[str, Any]], part: str) -> tuple[Table, dict[tuple[str, str], int]]:
    """By set and condition, the pooled metrics of each seed whose folds are all there; and how many seeds are not."""
    folds: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        folds[row["set"], row["condition"], row["seed"]].append(row)
    expected: dict[str, int] = defaultdict(int)
    for (name, _, _), found in folds.items():
        expected[name] = max(expected[name], len(found))
    table: Table = defaultdict(dict)
    unfinished: dict[tuple[str, str], int] = defaultdict(int)
    for (name, condition, seed), found in folds.items():
        if len(found) == expected[name]:
            table[name, condition][seed] = pool(found, part)
        else:
            unfinished[name, condition] += 1
    return table, unfinished


def compare(table: Table, name: str, better: str, worse: str, metric: str) -> Verdict | None:
    """The paired interval over the seeds that both have; None with fewer than two, or where all differences are 0."""
    one, two = table.get((name, better), {}), table.get((name, worse), {})
    seeds = sorted(one.keys() & two.keys())
    if len(seeds) < 2:
        return None
    return verdict(f"{better} - {worse}", f"{metric} > 0", [one[seed][metric] - two[seed][metric] for seed in seeds])


def lines(rows: list[dict[str, Any]]) -> Iterable[str]:
    """Markdown: a table of means, the values of macro-F1 seed by seed, and the comparisons."""
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        own = [row for row in rows if row["protocol"] == protocol and "set" in row]
        whole, _ = tabulate(own, "whole")
        table, unfinished = tabulate(own, "cut")
        for name in dict.fromkeys(name for name, _ in table):
            yield f"\n### {protocol}: {name}\n"
            yield "| model | seeds | macro-F1 | uncut | F1 | AUC | GT-I / II / III | false handoffs |"
            yield "|---|---|---|---|---|---|---|---|"
            for (other, condition), seeds in table.items():
                if other == name:
                    mean = {key: statistics.fmean(one[key] for one in seeds.values()) for key in seeds[min(seeds)]}
                    uncut = statistics.fmean(one["macro_f1"] for one in whole[name, condition].values())
                    gt = " / ".join(f"{100 * mean[key]:.1f}" for key in ("gt1", "gt2", "gt3"))
                    late = unfinished.get((name, condition), 0)
                    number = f"{len(seeds)} (+{late} unfinished)" if late else f"{len(seeds)}"
                    cells = [f"{100 * value:.2f}" for value in (mean["macro_f1"], uncut)]
                    cells += [f"{100 * mean[key]:.1f}" for key in ("f1", "auc")]
                    yield f"| {condition} | {number} | {' | '.join(cells)} | {gt} | {mean['error_cost']:.0f} |"
            yield ""
            for (other, condition), seeds in table.items():
                if other == name:
                    values = " ".join(f"{100 * seeds[seed]['macro_f1']:.2f}" for seed in sorted(seeds))
                    yield f"- macro-F1 of {condition}, seeds {min(seeds)} to {max(seeds)}: {values}"
            for better, worse in COMPARISONS:
                for metric in ("macro_f1", "auc", "gt1"):
                    found = compare(table, name, better, worse, metric)
                    if found is not None and found.measured is not None and found.interval is not None:
                        low, high = (100 * end for end in found.interval)
                        word = {True: "above 0", False: "below 0", None: "undecided"}[found.holds]
                        seeds = table[name, better].keys() & table[name, worse].keys()
                        yield (
                            f"- {metric}: {better} - {worse} = {100 * found.measured:+.2f} [{low:+.2f}, {high:+.2f}] "
                            f"points over {len(seeds)} seeds, {word}"
                        )
        betas = [row["beta"] for row in own if row["condition"] in ("state", "cem") and math.isfinite(row["beta"])]
        if betas:
            yield f"\nlearned beta of {len(betas)} trainings: {min(betas):.2f} to {max(betas):.2f}"
        yield f"CPU seconds of all trainings: {sum(row['cpu_seconds'] for row in own):.0f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tables of the claims' rows.")
    parser.add_argument("rows", type=Path, nargs="+")
    arguments = parser.parse_args(argv)
    rows = [json.loads(line) for path in arguments.rows for line in path.read_text(encoding="utf-8").splitlines()]
    print("\n".join(lines(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
