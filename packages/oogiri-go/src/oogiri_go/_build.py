"""Make a dataset directory: read, check, divide, deduplicate, write; killed at any moment, it goes on."""

import hashlib
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from tqdm import tqdm  # type: ignore[import-untyped]

from ._card import render_card
from ._check import Checked, check_pictures
from ._clean import clean_partition
from ._contents import contents_of
from ._groups import group_key
from ._issue import DataError, Issue
from ._plan import Options, Plan, make_plan
from ._read import read_jsonl
from ._record import Record
from ._shards import PictureBytes, write_shard
from ._sources import PathLike, find_sources, sha256
from ._split import SPLITS, Anchors, SplitBy, check_ratios, row_key, split_of
from ._spool import Row, Spool
from .runs import write_atomic
from .runs._atomic import sync_directory

_PARTITION_BYTES = 8 << 20
_MAX_PARTITIONS = 1024


@dataclass(frozen=True)
class Build:
    """A finished build.

    Attributes:
        path: Its directory.
        rows: Rows by split.
        prompts: Prompts by split.
        dropped: Records left out, by reason: ``exact`` and ``near`` duplicates, ``crossing`` (picture and question in
            different splits), ``defects`` (issues of lines and records with a broken picture).
        seconds: Wall time of this call; hardly any where the same build was there already.
    """

    path: Path
    rows: dict[str, int]
    prompts: dict[str, int]
    dropped: dict[str, int]
    seconds: float


def build(
    sources: PathLike | Sequence[PathLike],
    *,
    out: PathLike,
    images: PathLike | None = None,
    split_by: SplitBy = "group",
    seed: int = 0,
    ratios: Sequence[float] = (0.9, 0.05, 0.05),
    lang: str = "auto",
    near: float | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    shard_mb: int = 256,
    source: str | None = None,
    license: str | None = None,
    workers: int = 1,
) -> Build:
    r"""Build a directory that ``datasets.load_dataset`` and the hub's viewer take as it is.

    ``out`` receives ``data/<split>-00000-of-0000N.parquet`` (zstd, page index, ``image`` as struct<bytes, path>),
    ``README.md`` with its ``configs``, ``manifest.json`` with a SHA-256 of every file, and ``issues.jsonl`` with
    everything that was left out for a defect. It appears at once, when all is written. Killed, the same call goes on
    from the pictures and shards that were finished; the bytes are the same as without the kill. They depend on the
    sources, the options and the versions of the libraries, never on time, machine or workers. Memory does not grow with
    the number of records; it does with the number of pictures, by about 1 KB each.

    Args:
        sources: Files of JSON lines, or folders in the published layout.
        out: The directory to make.
        images: Folder or zip file of pictures; found by itself in a folder of the published layout. Every picture is
            decoded, and what not every reader opens alike is stored as RGB. Pictures that look the same count as one
            prompt, the first that a record names; add new sources behind the old ones, and old records stay.
        split_by: As ``by`` of `split`.
        seed: As in `split`.
        ratios: As in `split`.
        lang: As in `read_jsonl`.
        near: As in `dedup`, within prompts; exact duplicates are always left out.
        on_error: ``"skip"`` leaves defects out and lists them, ``"raise"`` stops at the first.
        shard_mb: Aim of the size of a Parquet file, in MiB.
        source: The source of records that name none.
        license: The licence of records that name none.
        workers: Processes that check pictures.

    Returns:
        Where it is and what it holds.

    Raises:
        DataError: With ``on_error="raise"``, at the first defect.
        FileNotFoundError: A source does not exist.
        ValueError: An argument has no such value, or ``out`` holds something else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "en.jsonl")
        ...     line = '{"type":"T2T","question":"Why %d?","image":null,"text":"Why not?","star":5}\n'
        ...     _ = path.write_text("".join(line % number for number in range(100)))
        ...     result = build(path, out=Path(folder, "oogiri"))
        >>> sum(result.rows.values()), result.dropped["exact"]
        (100, 0)
    """
    started = time.perf_counter()
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error is {on_error!r}; expected 'skip' or 'raise'")
    options = Options(split_by, seed, tuple(ratios), lang, near, shard_mb, license, source)
    plan = make_plan(find_sources(sources, images), options)
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        return _present(target, plan, started)
    work = _workspace(target, plan)
    checked, contents = _pictures(plan, work, workers)
    state = _state(work / "spool.json", lambda: _spool(plan, work, checked, contents, on_error))
    shards = _write(plan, work, checked, state)
    result = _finish(plan, work, target, state, shards)
    return Build(target, *result, time.perf_counter() - started)


def _present(target: Path, plan: Plan, started: float) -> Build:
    """The build that is there, if it is the one that was asked for."""
    manifest = target / "manifest.json"
    if not manifest.is_file() or json.loads(manifest.read_bytes()).get("plan") != plan.digest:
        raise ValueError(f"{os.fspath(target)!r} holds something else; choose another folder, or delete this one")
    shutil.rmtree(_work_of(target), ignore_errors=True)  # a kill after the last step leaves it
    held = json.loads(manifest.read_bytes())
    rows, prompts = ({name: part[key] for name, part in held["splits"].items()} for key in ("rows", "prompts"))
    return Build(target, rows, prompts, held["dropped"], time.perf_counter() - started)


def _work_of(target: Path) -> Path:
    return target.absolute().with_name(f".{target.absolute().name}.building")


def _workspace(target: Path, plan: Plan) -> Path:
    """The folder beside ``target`` in which the build grows; another plan's is cleared."""
    work = _work_of(target)
    if not (work / "plan.json").is_file() or (work / "plan.json").read_text(encoding="utf-8") != plan.text:
        shutil.rmtree(work, ignore_errors=True)
        write_atomic(work / "plan.json", plan.text)
    return work


def _state(path: Path, make: Any) -> dict[str, Any]:
    """What a finished stage left, or that stage, now."""
    if not path.exists():
        write_atomic(path, json.dumps(make()))
    state: dict[str, Any] = json.loads(path.read_bytes())
    return state


def _records(plan: Plan, *, with_id: bool, label: str | None = None) -> Iterator[tuple[str, Record | Issue]]:
    with tqdm(desc=label, delay=2, disable=True if label is None else None, unit="record") as bar:
        for path in plan.sources.files:
            name, count = path.name, 0
            for count, one in enumerate(
                read_jsonl(path, lang=plan.options.lang, on_error="collect", with_id=with_id), 1
            ):
                yield name, one
                if count % 4096 == 0:
                    bar.update(4096)
            bar.update(count % 4096)


def _pictures(plan: Plan, work: Path, workers: int) -> tuple[dict[str, Checked], dict[str, str]]:
    """Check every picture that a record names, in the order of the records; what was checked before a kill is kept.

    Returns:
        The results, and for each good picture the content by which it is known, that of the first that looks like it.
    """
    images = plan.sources.images
    if images is None:
        return {}, {}
    names = dict.fromkeys(
        one.image for _, one in _records(plan, with_id=False) if isinstance(one, Record) and one.image is not None
    )
    path = work / "pictures.jsonl"
    checked = {one.image_id: one for one in _torn_lines(path)}
    missing = [name for name in names if name not in checked]
    results = check_pictures(images, missing, check="decode", looks=True, workers=workers)
    with path.open("ab") as file:
        for one in tqdm(results, "checking pictures", len(missing), delay=2, disable=None, unit="picture"):
            file.write(msgspec.json.encode(one) + b"\n")
            checked[one.image_id] = one
        file.flush()
        os.fsync(file.fileno())
    return checked, contents_of(checked[name] for name in names)


def _torn_lines(path: Path) -> list[Checked]:
    """Results of a run that may have been killed while it wrote; what is behind the last whole line is cut off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return msgspec.json.Decoder(Checked).decode_lines(whole)


class _Tied(Exception):
    """A record has both picture and question, and nobody has announced it."""


def _spool(
    plan: Plan, work: Path, checked: Mapping[str, Checked], contents: Mapping[str, str], on_error: str
) -> dict[str, Any]:
    """Divide the records into partitions by their hash, then clean each."""
    shard_bytes = plan.options.shard_mb << 20
    wanted = max(plan.source_bytes / _PARTITION_BYTES, 4 * sum(one.size for one in checked.values()) / shard_bytes)
    partitions = min(_MAX_PARTITIONS, max(1, math.ceil(wanted)))
    (work / "result").mkdir(exist_ok=True)
    (work / "clean").mkdir(exist_ok=True)
    pictures = contents if checked else None
    spool = Spool(work / "spool", partitions)
    anchors = Anchors(plan.options.seed, check_ratios(plan.options.ratios))
    try:
        dropped, by_code = _distribute(plan, work, checked, pictures, None, spool, on_error)
    except _Tied:  # rare, so the pass over all records that it needs is spared where it is not
        for _, one in _records(plan, with_id=False):
            if isinstance(one, Record):
                anchors.announce(one, pictures)
        spool = Spool(work / "spool", partitions)
        dropped, by_code = _distribute(plan, work, checked, pictures, anchors, spool, on_error)
    parts = []
    for number in tqdm(range(partitions), "sorting", delay=2, disable=None, unit="part"):
        part = clean_partition(spool.take(number), work / "clean", number, near=plan.options.near, checked=checked)
        dropped.update({kind: part[kind] for kind in ("exact", "near")})
        parts.append(part["splits"])
    return {"parts": parts, "dropped": dict(dropped), "defects": dict(sorted(by_code.items()))}


def _distribute(
    plan: Plan,
    work: Path,
    checked: Mapping[str, Checked],
    pictures: Mapping[str, str] | None,
    anchors: Anchors | None,
    spool: Spool,
    on_error: str,
) -> tuple[Counter[str], Counter[str]]:
    """Read every source once; rows go to the spool, what is left out to ``issues.jsonl``.

    Returns:
        What was left out, by reason, and the defects by kind.
    """
    options = plan.options
    seed, bounds, by_row = options.seed, check_ratios(options.ratios), options.split_by == "row"
    index = {name: at for at, name in enumerate(SPLITS)}
    fill = options.source is not None or options.license is not None
    dropped = Counter(exact=0, near=0, crossing=0, defects=0)
    by_code: Counter[str] = Counter()

    def leave_out(name: str, issue: Issue, reason: str) -> None:
        if reason == "defects":
            if on_error == "raise":
                raise DataError(issue, name)
            by_code[issue.code] += 1
        dropped[reason] += 1
        issues.write(msgspec.json.encode({"source": name} | msgspec.structs.asdict(issue)) + b"\n")

    with (work / "result" / "issues.jsonl").open("wb") as issues:
        for name, one in _records(plan, with_id=True, label="reading"):
            if isinstance(one, Issue):
                leave_out(name, one, "defects")
                continue
            if one.image is not None and checked and (defect := checked[one.image]).code:
                issue = Issue(0, 0, defect.code, f"record {one.id}: {defect.message}")
                leave_out(name, issue, "defects")
                continue
            if fill:
                source, licence = one.source or options.source, one.license or options.license
                one = msgspec.structs.replace(one, source=source, license=licence)
            cluster: str | None
            cluster = group = group_key(one, pictures)
            if by_row:
                spool.add(Row(group, group, index[split_of(row_key(one), seed, bounds)], one))
                continue
            if anchors is not None:
                cluster = anchors.place(one, pictures)
            elif one.image is not None and one.question is not None:
                raise _Tied
            if cluster is None:
                message = f"record {one.id}: its picture and its question are in different splits"
                leave_out(name, Issue(0, 0, "crossing", message), "crossing")
            else:
                spool.add(Row(cluster, group, index[split_of(cluster, seed, bounds)], one))
    return dropped, by_code


def _write(plan: Plan, work: Path, checked: Mapping[str, Checked], state: dict[str, Any]) -> list[dict[str, Any]]:
    """Write the shards that are not there yet."""
    shards = []
    for split in SPLITS:
        sizes = [part[split]["bytes"] for part in state["parts"]]
        chosen = list(_share(sizes, plan.options.shard_mb << 20))
        names = [f"{split}-{at:05}-of-{len(chosen):05}" for at in range(len(chosen))]
        shards += [(name, split, numbers) for name, numbers in zip(names, chosen, strict=True)]
    pictures = PictureBytes(plan.sources.images, checked)
    data = work / "result" / "data"
    data.mkdir(exist_ok=True)
    (work / "done").mkdir(exist_ok=True)
    done = []
    for name, split, numbers in tqdm(shards, "writing", delay=2, disable=None, unit="file"):
        path = data / f"{name}.parquet"
        note = work / "done" / f"{name}.json"
        if not (note.exists() and path.exists()):
            parts = [work / "clean" / f"{split}-{number:05}.arrow" for number in numbers]
            rows = write_shard(path, parts, pictures)
            about = {"path": f"data/{path.name}", "split": split, "rows": rows}
            write_atomic(note, json.dumps(about | {"bytes": path.stat().st_size, "sha256": sha256(path)}))
        done.append(json.loads(note.read_bytes()))
    pictures.close()
    return done


def _share(sizes: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Divide partitions, in order, among files of about ``limit`` bytes; there is always one file."""
    numbers: list[int] = []
    size = 0
    for number, one in enumerate(sizes):
        if numbers and size + one > limit:
            yield numbers
            numbers, size = [], 0
        numbers.append(number)
        size += one
    yield numbers


def _finish(
    plan: Plan, work: Path, target: Path, state: dict[str, Any], shards: list[dict[str, Any]]
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Add card and manifest, and let the directory appear."""
    result = work / "result"
    splits = {}
    for split in SPLITS:
        parts = [part[split] for part in state["parts"]]
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part["counts"])
        total = {key: sum(part[key] for part in parts) for key in ("rows", "prompts")}
        splits[split] = total | {"counts": dict(sorted(counts.items()))}
    manifest = {
        "plan": plan.digest,
        **plan.contents,
        "splits": splits,
        "dropped": state["dropped"],
        "defects": state["defects"],
        "shards": shards,
    }
    text = render_card(manifest)
    manifest["files"] = {
        "README.md": hashlib.sha256(text.encode()).hexdigest(),
        "issues.jsonl": sha256(result / "issues.jsonl"),
    }
    write_atomic(result / "README.md", text)
    write_atomic(result / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    sync_directory(result)
    if target.exists():
        target.rmdir()
    result.rename(target)
    sync_directory(target.absolute().parent)
    shutil.rmtree(work, ignore_errors=True)
    return (
        {name: part["rows"] for name, part in splits.items()},
        {name: part["prompts"] for name, part in splits.items()},
        dict(state["dropped"]),
    )
