"""Rows to prepare: images with the prompts that made them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._infotext import parse_infotext, read_infotext
from ._surd import METADATA, SUFFIXES


@dataclass(frozen=True)
class SourceRow:
    """An image with its prompt.

    Attributes:
        path: Of the image.
        prompt: As it was written; empty when there is none.
        caption: A narrative prompt that the source has already, or None.
        facts: The source's whole entry, for the safety hook.
    """

    path: Path
    prompt: str
    caption: str | None
    facts: Mapping[str, Any]


def read_source(folder: Path) -> Iterator[SourceRow]:
    """Yield the rows of a folder: those of its metadata, or without one its images with their own parameters.

    Args:
        folder: With ``metadata.jsonl`` (an object a line) or ``metadata.json`` (a list of objects), each with
            ``file_name`` (the extension may be missing), ``prompt`` and perhaps ``text``; or with images of the web
            interface.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The metadata cannot be read, or there is neither metadata nor an image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give one with images")
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    entries = _entries(folder)
    if entries is None:
        if not images:
            raise ValueError(f"{folder} holds neither {METADATA} nor images ({', '.join(SUFFIXES)})")
        yield from map(_own, images)
        return
    by_name = {path.relative_to(folder).as_posix(): path for path in images}
    by_name |= {path.relative_to(folder).with_suffix("").as_posix(): path for path in reversed(images)} | by_name
    for number, entry in enumerate(entries, start=1):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise ValueError(f"entry {number} of the metadata in {folder} has no file_name")
        caption = entry.get("text")
        yield SourceRow(
            by_name.get(name, folder / name),
            str(entry.get("prompt") or ""),
            caption if isinstance(caption, str) and caption.strip() else None,
            entry,
        )


def _own(path: Path) -> SourceRow:
    try:
        text = read_infotext(path.read_bytes())
    except ValueError:
        text = None  # what is no image is dropped, and counted, when it is decoded
    found = parse_infotext(text) if text else None
    facts = {} if found is None else {"negative": found.negative, **found.settings}
    return SourceRow(path, "" if found is None else found.prompt, None, facts)


def _entries(folder: Path) -> list[Any] | None:
    lines, listed = folder / METADATA, folder / "metadata.json"
    path = lines if lines.is_file() else listed
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        if path is lines:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a list of objects")
    return content
