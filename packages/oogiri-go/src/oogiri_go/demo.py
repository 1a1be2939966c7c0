"""The main job in one command: spoiled data in the published layout, made sound, and shown."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import __version__
from . import _figures as figures
from ._build import build
from ._contents import picture_contents
from ._dedup import dedup
from ._export import export
from ._groups import group_key
from ._read import read_jsonl
from ._record import Record
from ._review import review
from ._split import SPLITS, split
from ._stats import statistics
from ._synthetic import write_layout
from ._verify import verify
from .runs import Report, Verdict, needs

_RATIOS = (0.8, 0.1, 0.1)  # the default 5 % of 600 records would be hardly any prompt


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Make 600 records in three languages and 60 pictures, 20 of them broken; verify, deduplicate, split, build."""

    out: Path = Path("runs/demo/oogiri-go")
    """Receives the raw data, the build, exports, a page to look through, report.json and the figures."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Nothing here uses a GPU; the option is there because every demo has it."""
    full: bool = False
    """60,000 records and 600 pictures, 200 of them broken."""


def demo(config: DemoConfig) -> None:
    """Make spoiled data in the published layout, find what is wrong, build, and write report.json and figures.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with needs("oogiri-go", "demo"):  # now, not after the work
        import matplotlib.figure  # noqa: F401
    scale = 100 if config.full else 1
    records, pictures, bad = 600 * scale, 60 * min(scale, 10), 20 * min(scale, 10)
    report = Report(
        "oogiri-go", __version__, seed=config.seed, profile="full" if config.full else "default", device="cpu"
    )
    raw, target = config.out / "raw", config.out / "oogiri"
    write_layout(raw, records=records, pictures=pictures, bad=bad, seed=config.seed)

    found = verify(raw)
    result = build(raw, out=target, near=0.8, seed=config.seed, ratios=_RATIOS)
    checked = verify(target)
    rows = [one for name in ("en", "cn", "jp") for one in read_jsonl(raw / f"{name}.jsonl", on_error="skip")]
    contents = picture_contents(raw / "images.zip", (one.image for one in rows if one.image is not None))
    unique = dedup(rows, near=0.8, pictures=contents)
    leaks = {by: _shared(unique.kept, by, config.seed, contents) for by in ("row", "group")}
    numbers = statistics(unique.kept, pictures=contents)
    exported = export(target, to="messages", out=config.out / "messages")
    shown = review(raw, out=config.out / "review.html")

    spoiled = sum(count for code, count in found.codes.items() if code.startswith("image-") and code != "image-id")
    report.metrics |= {
        "records written": records,
        "records read": found.records,
        "pictures": pictures,
        "issues found": sum(found.codes.values()),
        "exact duplicates": sum(one.kind == "exact" for one in unique.duplicates),
        "near duplicates": sum(one.kind == "near" for one in unique.duplicates),
        "pictures that repeat another": len(contents) - len(set(contents.values())),
        "rows built": sum(result.rows.values()),
        "prompts with 5 different numbers of likes": numbers.rankable,
        "chat messages exported": sum(exported.values()),
        "records on the page": shown,
        "issues by kind": [{"kind": code, "count": count} for code, count in sorted(found.codes.items())],
        "rows by split": [
            {"split": name, "rows": result.rows[name], "prompts": result.prompts[name]} for name in SPLITS
        ],
        "records by language and game": numbers.rows(),
    }
    report.verdicts += [
        Verdict("every broken picture is found", bad, spoiled, None, spoiled == bad),
        Verdict("the build has no issue", 0, sum(checked.codes.values()), None, checked.ok),
        Verdict(
            "by prompt, no record of validation or test shares its prompt with train",
            0.0,
            leaks["group"],
            None,
            leaks["group"] == 0,
        ),
        Verdict("by row, as in the paper, some do", "> 0", leaks["row"], None, leaks["row"] > 0),
    ]
    report.add_figure(figures.issues(found.codes), "issues")
    report.add_figure(figures.leakage(leaks), "leakage")
    report.add_figure(figures.kinds(_by_split(target)), "records")
    report.write(config.out)
    print(_short(report))
    print(f"\na page to look through them: {config.out / 'review.html'}")


def _shared(rows: list[Record], by: Literal["row", "group"], seed: int, contents: dict[str, str]) -> float:
    """Share of the records of validation and test whose prompt is in train too."""
    parts = split(rows, by=by, seed=seed, ratios=_RATIOS, pictures=contents)
    train = {group_key(one, contents) for one in parts.train}
    held = [group_key(one, contents) in train for one in [*parts.validation, *parts.test]]
    return sum(held) / len(held) if held else 0.0


def _by_split(target: Path) -> dict[str, dict[str, int]]:
    splits: dict[str, Any] = json.loads((target / "manifest.json").read_bytes())["splits"]
    return {name: splits[name]["counts"] for name in SPLITS}


def _short(report: Report) -> str:
    """The table without the lists, which report.json has."""
    whole = report.metrics
    report.metrics = {name: value for name, value in whole.items() if not isinstance(value, list)}
    try:
        return report.table()
    finally:
        report.metrics = whole
