"""The command `oogiri-go`."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from . import _figures as figures
from ._build import build
from ._card import card
from ._contents import picture_contents
from ._dataset import OogiriDataset
from ._dedup import dedup
from ._export import export
from ._issue import Issue
from ._lines import write_jsonl, write_lines
from ._read import read_jsonl
from ._record import LANGUAGES, Record
from ._review import review
from ._sources import find_sources
from ._split import SPLITS, SplitBy, split
from ._stats import statistics
from ._verify import verify
from .demo import demo
from .runs import main as run_command
from .runs import write_atomic
from .safety import BlockList, PersonalData, SafetyFilter, screen


@dataclass(frozen=True, kw_only=True)
class ReadConfig:
    """Where records come from."""

    sources: tuple[Path, ...]
    """Files of JSON lines, or folders in the published layout, or builds where a command says so."""
    lang: str = "auto"
    """en, cn or zh, jp or ja; auto takes the line's own, else the file name's, else that of the script."""
    strict: bool = False
    """Stop at the first defect instead of leaving it out."""
    json: bool = False
    """Print the result as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Check a file, a folder in the published layout, or a build; exit code 1 where there is an issue."""

    root: Path
    images: Path | None = None
    """Folder or zip file of pictures, where they do not lie in ROOT."""
    check: Literal["decode", "header"] = "decode"
    lang: str = "auto"
    workers: int = 1
    show: int = 20
    """Print at most so many issues."""
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class BuildConfig(ReadConfig):
    """Build a directory that the library datasets and the hub's viewer take as it is."""

    out: Path
    images: Path | None = None
    """Folder or zip file of pictures, where they do not lie in a folder of SOURCES."""
    split_by: SplitBy = "group"
    """group keeps prompts and pictures in one split; row is the paper's way."""
    seed: int = 0
    ratios: tuple[float, float, float] = (0.9, 0.05, 0.05)
    near: float | None = None
    """Also leave out near duplicates within a prompt, from this similarity on."""
    shard_mb: int = 256
    source: str | None = None
    """The source of records that name none."""
    license: str | None = None
    """The licence of records that name none."""
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class DedupConfig(ReadConfig):
    """Keep the first of answers that say the same."""

    out: Path
    """Receives the records; beside it, OUT.duplicates.jsonl says what was left out and why."""
    near: float | None = None
    scope: Literal["group", "all"] = "group"
    images: Path | None = None
    """Folder or zip file of pictures: those that look the same then count as one prompt."""
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class SplitConfig(ReadConfig):
    """Divide records into train.jsonl, validation.jsonl and test.jsonl."""

    out: Path
    """The folder that receives them, and crossing.jsonl where a record fits no split."""
    by: SplitBy = "group"
    seed: int = 0
    ratios: tuple[float, float, float] = (0.9, 0.05, 0.05)
    images: Path | None = None
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class StatsConfig(ReadConfig):
    """Count records, prompts, likes and lengths; SOURCES may be one build."""

    plots: Path | None = None
    """A folder for figures (needs the extra demo)."""


@dataclass(frozen=True, kw_only=True)
class FilterConfig(ReadConfig):
    """Screen records and keep those to which no filter objects."""

    out: Path
    """Receives the records; beside it, OUT.findings.jsonl says what was left out and why."""
    block: Path | None = None
    """A text file with one word a line, `word` for all languages or `en<TAB>word` for one."""
    personal_data: bool = True
    """Object to e-mail addresses, telephone numbers and handles."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a build in another form."""

    root: Path
    out: Path
    to: Literal["webdataset", "messages", "dpo", "choice", "jsonl"]
    shard_mb: int = 256
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class CardConfig:
    """Print the dataset card of a build."""

    root: Path
    out: Path | None = None
    """Write it there instead."""


@dataclass(frozen=True, kw_only=True)
class ReviewConfig:
    """Write one self-contained HTML file to look through records and pictures."""

    root: Path
    out: Path = Path("review.html")
    images: Path | None = None
    limit: int = 2000
    lang: str = "auto"


def run_verify(config: VerifyConfig) -> int:
    """Find everything that is wrong with a data directory."""
    found = verify(config.root, images=config.images, check=config.check, lang=config.lang, workers=config.workers)
    counts = {"records": found.records, "pictures": found.pictures, "issues": sum(found.codes.values())}
    issues = [{"file": file} | msgspec.structs.asdict(issue) for file, issue in found.issues]
    if config.json:
        more = {"codes": found.codes, "warnings": found.warnings, "found": issues, "seconds": found.seconds}
        print(json.dumps(counts | more, ensure_ascii=False))
        return 0 if found.ok else 1
    for issue in issues[: config.show]:
        place = f":{issue['line']}" if issue["line"] else ""
        print(f"{issue['file']}{place}: {issue['message']} [{issue['code']}]")
    if counts["issues"] > min(config.show, len(issues)):
        print(f"... {counts['issues']} in all")
    _say(counts | {f"issues of kind {code}": count for code, count in sorted(found.codes.items())}, False)
    _say({f"warnings, {code}": count for code, count in sorted(found.warnings.items())}, False)
    return 0 if found.ok else 1


def run_build(config: BuildConfig) -> None:
    """Read, check, divide, deduplicate and write; killed, the same command goes on."""
    result = build(
        config.sources,
        out=config.out,
        images=config.images,
        split_by=config.split_by,
        seed=config.seed,
        ratios=config.ratios,
        lang=config.lang,
        near=config.near,
        on_error="raise" if config.strict else "skip",
        shard_mb=config.shard_mb,
        source=config.source,
        license=config.license,
        workers=config.workers,
    )
    dropped = {f"left out, {reason}": count for reason, count in result.dropped.items()}
    _say({"path": str(result.path)} | result.rows | dropped | {"seconds": round(result.seconds, 3)}, config.json)


def run_dedup(config: DedupConfig) -> None:
    """Write the records without their duplicates."""
    records, issues = _read(config)
    contents = _contents(config.images, records, config.workers)
    result = dedup(records, near=config.near, scope=config.scope, pictures=contents)
    write_jsonl(result.kept, config.out)
    about = (
        {"id": one.record.id, "text": one.record.text, "of": one.of.id, "of_text": one.of.text, "kind": one.kind}
        | {"similarity": round(one.similarity, 4)}
        for one in result.duplicates
    )
    write_lines(map(msgspec.json.encode, about), _beside(config.out, "duplicates"))
    kinds = Counter(one.kind for one in result.duplicates)
    _say({"kept": len(result.kept), "exact": kinds["exact"], "near": kinds["near"], "issues": issues}, config.json)


def run_split(config: SplitConfig) -> None:
    """Write the records of each split to a file."""
    records, issues = _read(config)
    contents = _contents(config.images, records, config.workers)
    parts = split(records, by=config.by, seed=config.seed, ratios=config.ratios, pictures=contents)
    counts = {name: write_jsonl(getattr(parts, name), config.out / f"{name}.jsonl") for name in SPLITS}
    if parts.crossing:
        write_jsonl(parts.crossing, config.out / "crossing.jsonl")
    _say(counts | {"crossing": len(parts.crossing), "issues": issues}, config.json)


def run_stats(config: StatsConfig) -> None:
    """Print the numbers, and draw them where a folder is named."""
    issues = 0
    if len(config.sources) == 1 and (config.sources[0] / "manifest.json").is_file():
        records = [one for name in SPLITS for one in OogiriDataset(config.sources[0], split=name)]
    else:
        records, issues = _read(config)
    numbers = statistics(records)
    if config.plots is not None:
        _plot(records, numbers.by_kind, config.plots)
    if config.json:
        print(json.dumps(asdict(numbers) | {"issues": issues}, ensure_ascii=False))
        return
    for row in numbers.rows():
        print(f"{row['kind']:8} {row['records']:9,} records  {row['prompts']:9,} prompts")
    for name in ("star", "length", "answers"):
        print(f"{name:8} " + "  ".join(f"{level:.0%} {value}" for level, value in getattr(numbers, name).items()))
    share, rankable = f"{numbers.with_star:.1%}", numbers.rankable
    _say({"records": numbers.records, "with likes": share, "rankable prompts": rankable, "issues": issues}, False)


def _plot(records: list[Record], kinds: dict[str, int], folder: Path) -> None:
    drawn = {
        "records": figures.kinds({"all": kinds}),
        "stars": figures.stars(Counter(one.star for one in records if one.star is not None)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        for suffix in ("svg", "png"):
            figure.savefig(folder / f"{name}.{suffix}", dpi=150)


def run_filter(config: FilterConfig) -> None:
    """Write the records to which no filter objects, and the reasons for the others."""
    filters: list[SafetyFilter] = []
    if config.personal_data:
        filters.append(PersonalData())
    if config.block is not None:
        filters.append(BlockList(_words(config.block)))
    if not filters:
        raise ValueError("there is no filter; name a word list with --block, or leave --personal-data on")
    records, issues = _read(config)
    verdicts = list(screen(records, filters))
    kept = write_jsonl((record for record, findings in verdicts if not findings), config.out)
    about = (
        {"id": record.id, "text": record.text, "findings": [asdict(one) for one in findings]}
        for record, findings in verdicts
        if findings
    )
    left = write_lines(map(msgspec.json.encode, about), _beside(config.out, "findings"))
    _say({"kept": kept, "left out": left, "issues": issues}, config.json)


def run_export(config: ExportConfig) -> None:
    """Write every split of a build in another form."""
    _say(export(config.root, to=config.to, out=config.out, shard_mb=config.shard_mb), config.json)


def run_card(config: CardConfig) -> None:
    """Print the card, or write it."""
    text = card(config.root)
    if config.out is None:
        print(text, end="")
    else:
        write_atomic(config.out, text)


def run_review(config: ReviewConfig) -> None:
    """Write the page."""
    count = review(config.root, out=config.out, images=config.images, limit=config.limit, lang=config.lang)
    print(f"{count} records in {config.out}")


def _read(config: ReadConfig) -> tuple[list[Record], int]:
    """The records of all sources, and how many lines were left out."""
    records: list[Record] = []
    issues = 0
    for one in _each(config):
        if isinstance(one, Issue):
            issues += 1
        else:
            records.append(one)
    return records, issues


def _each(config: ReadConfig) -> Iterator[Record | Issue]:
    for path in find_sources(config.sources).files:
        if config.strict:
            yield from read_jsonl(path, lang=config.lang)
        else:
            yield from read_jsonl(path, lang=config.lang, on_error="collect")


def _contents(images: Path | None, records: list[Record], workers: int) -> dict[str, str] | None:
    if images is None:
        return None
    return picture_contents(images, (one.image for one in records if one.image is not None), workers=workers)


def _words(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {lang: [] for lang in LANGUAGES}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        lang, tab, word = line.rpartition("\t")
        for one in [lang.strip()] if tab else LANGUAGES:
            found.setdefault(one, []).append(word.strip())
    return found


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}.{what}.jsonl")


def _say(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
    else:
        width = max(map(len, values), default=0)
        print(
            "".join(
                f"{name:{width}}  {value:,}\n" if isinstance(value, int) else f"{name:{width}}  {value}\n"
                for name, value in values.items()
            ),
            end="",
        )


def main() -> int:
    """Run the command line and give its exit code: 0 done, 1 failed or issues found, 2 bad input or usage."""
    return run_command(
        {
            "verify": run_verify,
            "build": run_build,
            "dedup": run_dedup,
            "split": run_split,
            "stats": run_stats,
            "filter": run_filter,
            "export": run_export,
            "card": run_card,
            "review": run_review,
            "demo": demo,
        },
        prog="oogiri-go",
        description="Read, verify, deduplicate, split and build humour data in the schema of Oogiri-GO.",
    )
