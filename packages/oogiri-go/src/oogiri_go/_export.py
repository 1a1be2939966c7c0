"""A build in other forms: webdataset archives, chat messages, preference pairs, multiple choice, JSON lines."""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
from tqdm import tqdm  # type: ignore[import-untyped]

from ._choices import choice_questions
from ._dataset import OogiriDataset
from ._lines import write_jsonl, write_lines
from ._messages import to_messages
from ._pairs import dpo_row, ranking_pairs
from ._record import Record, to_line
from ._split import SPLITS
from .runs._atomic import sync_directory

Form = Literal["webdataset", "messages", "dpo", "choice", "jsonl"]

_encode = msgspec.json.encode


def export(
    root: str | os.PathLike[str], *, to: Form, out: str | os.PathLike[str], shard_mb: int = 256
) -> dict[str, int]:
    """Write every split of a build in another form.

    Args:
        root: A directory that `build` made.
        to: ``"webdataset"``: ``<split>-00000.tar`` of samples named by record, each a ``.json`` and, where there is
            one, its picture. ``"messages"``, ``"dpo"`` and ``"choice"``: ``<split>.jsonl`` of `to_messages`, `dpo_row`
            of `ranking_pairs`, and `choice_questions`. ``"jsonl"``: ``<split>.jsonl`` of the records themselves.
        out: A directory; files of the same names are replaced, each atomically.
        shard_mb: Aim of the size of a webdataset archive, in MiB.

    Returns:
        Rows written, by split.

    Raises:
        FileNotFoundError: There is no build.
        ValueError: An argument has no such value.
    """
    if to not in ("webdataset", "messages", "dpo", "choice", "jsonl"):
        raise ValueError(f"to is {to!r}; expected webdataset, messages, dpo, choice or jsonl")
    if shard_mb < 1:
        raise ValueError(f"shard_mb is {shard_mb}; expected at least 1")
    folder = Path(out)
    counts: dict[str, int] = {}
    for split in SPLITS:
        data = OogiriDataset(root, split=split)
        if to == "webdataset":
            counts[split] = _write_archives(data, folder, split, shard_mb << 20)
        elif to == "jsonl":
            counts[split] = write_jsonl(_shown(data, split), folder / f"{split}.jsonl")
        else:
            counts[split] = write_lines(_lines(data, split, to), folder / f"{split}.jsonl")
    return counts


def _shown(data: Iterable[Record], split: str) -> Iterator[Record]:
    return iter(tqdm(data, split, delay=2, disable=None, unit="record"))


def _lines(data: OogiriDataset, split: str, to: Form) -> Iterator[bytes]:
    rows = _shown(data, split)
    if to == "messages":
        for record in rows:
            yield _encode({"id": record.id, "messages": to_messages(record)})
    elif to == "dpo":
        for pair in ranking_pairs(rows):
            yield _encode(dpo_row(pair))
    else:
        for one in choice_questions(rows):
            prompt = {name: getattr(one.prompt, name) for name in ("type", "lang", "question", "image")}
            yield _encode({**prompt, "options": one.options, "answers": one.answers})


def _write_archives(data: OogiriDataset, folder: Path, split: str, limit: int) -> int:
    """Write tar files whose bytes depend on the build alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{split}-?????.tar"):
        old.unlink()
    number, size = 0, 0
    archive: _Archive | None = None
    for index, record in enumerate(_shown(data, split)):
        if archive is None or size >= limit:
            if archive is not None:
                archive.close()
            archive, number, size = _Archive(folder / f"{split}-{number:05}.tar"), number + 1, 0
        image = data.image_bytes(index)
        size += archive.add(record.id, "json", to_line(record))
        if image is not None:
            size += archive.add(record.id, _suffix(image), image)
    if archive is not None:
        archive.close()
    return len(data)


class _Archive:
    """A tar file that appears when it is whole."""

    def __init__(self, path: Path) -> None:
        import tarfile

        self._path = path
        self._temporary = path.with_name(f".tmp-{path.name}")
        self._file = self._temporary.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - see close

    def add(self, key: str, suffix: str, data: bytes) -> int:
        import tarfile

        member = tarfile.TarInfo(f"{key}.{suffix}")
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))
        return len(data)

    def close(self) -> None:
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)
        sync_directory(self._path.parent)


def _suffix(data: bytes) -> str:
    for head, suffix in ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif")):
        if data.startswith(head):
            return suffix
    return "webp"
