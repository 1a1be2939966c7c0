"""Find everything that is wrong with a data directory, before it costs a training."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from tqdm import tqdm  # type: ignore[import-untyped]

from ._archive import open_pictures
from ._card import read_manifest
from ._check import check_pictures
from ._groups import fold
from ._issue import Defect, Issue
from ._picture import Check, inspect
from ._read import read_jsonl
from ._record import Record, record_id
from ._schema import records_of, schema
from ._sources import PathLike, find_sources, sha256
from ._split import check_ratios, row_key, split_of

KEPT = 1000
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass
class Findings:
    """What `verify` found.

    Attributes:
        records: Good records.
        pictures: Good pictures.
        codes: Number of issues by kind.
        issues: The first 1000 issues, each with the name of its file.
        warnings: Number of oddities that are no defects: ``bidi`` (directional controls, which can make text look like
            another) and ``picture-unused``.
        seconds: Wall time.
    """

    records: int = 0
    pictures: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    issues: list[tuple[str, Issue]] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there is no issue."""
        return not self.codes

    def add(self, file: str, issue: Issue) -> None:
        """Count an issue, and keep it while there is room."""
        self.codes[issue.code] += 1
        if len(self.issues) < KEPT:
            self.issues.append((file, issue))


def verify(
    root: PathLike,
    *,
    images: PathLike | None = None,
    check: Check = "decode",
    lang: str = "auto",
    workers: int = 1,
) -> Findings:
    """Check a file of JSON lines, a folder in the published layout, or a build.

    Lines are checked by the rules of `read_jsonl`. Pictures: every member of the archive, by `check`, and every
    record's reference. A build: the SHA-256 of every file, columns, identifiers, pictures, order, and that every record
    is in the split that its prompt's hash says and repeats none of its neighbours.

    Args:
        root: A file or a directory.
        images: Folder or zip file of pictures, where they do not lie in ``root``.
        check: ``"decode"`` really decodes pictures; ``"header"`` only looks at their headers, which truncation passes.
        lang: As in `read_jsonl`.
        workers: Processes that check pictures of a folder or zip file.

    Returns:
        What was found. Memory does not grow with the number of records.

    Raises:
        FileNotFoundError: There is nothing to check.
        ValueError: An argument has no such value, or the archive is none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "en.jsonl").write_text('{"type":"T2T","question":"Why?","text":"No.","star":-1}')
        ...     found = verify(folder)
        >>> print(found.ok, dict(found.codes))
        False {'star': 1}
    """
    if check not in ("header", "decode"):
        raise ValueError(f"check is {check!r}; expected 'header' or 'decode'")
    started = time.perf_counter()
    found = Findings()
    if Path(root, "manifest.json").is_file():
        _verify_build(Path(root), check, found)
    else:
        _verify_sources(root, images, check, lang, workers, found)
    found.seconds = time.perf_counter() - started
    return found


def _verify_sources(
    root: PathLike, images: PathLike | None, check: Check, lang: str, workers: int, found: Findings
) -> None:
    sources = find_sources(root, images)
    names: set[str] = set()
    good: set[str] | None = None
    if sources.images is not None:
        place = sources.images.name
        good = set()
        with open_pictures(sources.images) as pictures:
            names = set(pictures)
            for defect in pictures.defects.values():
                found.add(place, Issue(0, 0, defect.code, defect.message))
        results = check_pictures(sources.images, sorted(names), check=check, workers=workers)
        for one in tqdm(results, "checking pictures", len(names), delay=2, disable=None, unit="picture"):
            if one.code:
                found.add(place, Issue(0, 0, one.code, f"picture {one.image_id!r}: {one.message}"))
            else:
                found.pictures += 1
                good.add(one.image_id)
    used: set[str] = set()
    for path in sources.files:
        lines = read_jsonl(path, lang=lang, on_error="collect", with_id=False)
        for record in tqdm(lines, path.name, delay=2, disable=None, unit="record"):
            if isinstance(record, Issue):
                found.add(path.name, record)
                continue
            _note_oddities(record, found)
            if record.image is not None and good is not None:
                used.add(record.image)
                if record.image not in names:
                    message = f"a record needs the picture {record.image!r}, which is not in {sources.images}"
                    found.add(path.name, Issue(0, 0, "image-missing", message))
                    continue
                if record.image not in good:
                    continue  # counted with the picture
            found.records += 1
    found.warnings.update({"picture-unused": len(names - used)} if names - used else {})


def _note_oddities(record: Record, found: Findings) -> None:
    text = f"{record.question or ''}{record.text}"
    if not text.isascii() and _BIDI.search(text):
        found.warnings["bidi"] += 1


def _verify_build(root: Path, check: Check, found: Findings) -> None:
    manifest = read_manifest(root)
    stated = {one["path"]: one for one in manifest["shards"]}
    for name, digest in {**{p: s["sha256"] for p, s in stated.items()}, **manifest["files"]}.items():
        path = root / name
        if not path.is_file():
            found.add(name, Issue(0, 0, "file-missing", "the manifest names this file, and it is not there"))
        elif sha256(path) != digest:
            found.add(name, Issue(0, 0, "sha256", "the file is not the one that was built"))
    for stray in sorted(set(_names(root / "data", root)) - set(stated)):
        found.add(stray, Issue(0, 0, "file-stray", "the manifest does not name this file, but datasets would read it"))
    for name, shard in tqdm(stated.items(), "checking", delay=2, disable=None, unit="file"):
        if (root / name).is_file():
            _verify_shard(root / name, name, shard, manifest, check, found)


def _names(folder: Path, root: Path) -> Iterator[str]:
    return (path.relative_to(root).as_posix() for path in folder.glob("*.parquet"))


def _verify_shard(
    path: Path, name: str, shard: dict[str, Any], manifest: dict[str, Any], check: Check, found: Findings
) -> None:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        found.add(name, Issue(0, 0, "parquet", f"this is no Parquet file: {error}"))
        return
    with file:
        if not file.schema_arrow.equals(schema(), check_metadata=False):
            found.add(name, Issue(0, 0, "schema", "the columns differ from those of this version"))
            return
        if file.metadata.num_rows != shard["rows"]:
            found.add(name, Issue(0, 0, "rows", f"{file.metadata.num_rows} rows, the manifest says {shard['rows']}"))
        state = _Neighbours()
        for group in range(file.num_row_groups):
            try:
                table = file.read_row_group(group, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                found.add(name, Issue(0, 0, "parquet", f"row group {group} does not read: {error}"))
                continue
            _verify_rows(table, name, shard["split"], manifest["options"], check, state, found)


class _Neighbours:
    """What is remembered between rows: the cluster at hand with the answers seen in it, and the last picture."""

    def __init__(self) -> None:
        self.cluster = ""
        self.seen: set[tuple[str, str, str]] = set()
        self.picture: tuple[bytes | None, str] = None, ""


def _verify_rows(
    table: pa.Table, name: str, split: str, options: dict[str, Any], check: Check, state: _Neighbours, found: Findings
) -> None:
    bounds = check_ratios(options["ratios"])
    groups, clusters = table.column("group").to_pylist(), table.column("cluster").to_pylist()
    images = table.column("image").to_pylist()
    for record, group, cluster, image in zip(records_of(table), groups, clusters, images, strict=True):
        code, message = "", ""
        if record.id != record_id(
            lang=record.lang, type=record.type, question=record.question, image=record.image, text=record.text
        ):
            code, message = "id", "the identifier is not that of the record"
        elif cluster < state.cluster:
            code, message = "order", "the rows are not in the order of their clusters"
        elif split != split_of(cluster if options["split_by"] == "group" else row_key(record), options["seed"], bounds):
            code, message = "split", "the record belongs into another split"
        if cluster != state.cluster:
            state.cluster, state.seen = cluster, set()
        key = (group, record.lang, fold(record.text))
        if key in state.seen:
            code, message = "duplicate", "an answer to the same prompt says the same"
        state.seen.add(key)
        if image is not None and not code:
            code, message = _picture_defect(image["bytes"], check, state, found)
        if code:
            found.add(name, Issue(0, 0, code, f"record {record.id}: {message}"))
        else:
            found.records += 1
        _note_oddities(record, found)


def _picture_defect(data: bytes, check: Check, state: _Neighbours, found: Findings) -> tuple[str, str]:
    """Judge a picture once for the neighbours that share it."""
    if state.picture[0] != data:
        message = ""
        try:
            inspect(data, check=check)
            found.pictures += 1
        except Defect as defect:
            message = f"{defect.code}: {defect.message}"
        state.picture = data, message
    return ("image", state.picture[1]) if state.picture[1] else ("", "")
