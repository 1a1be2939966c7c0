"""Records and pictures from what a user names: files, folders of files, or a data set built by oogiri-go."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oogiri_go import Issue, OogiriDataset, Record, read_jsonl

from ._pictures import Pictures

_PUBLISHED = ("en.jsonl", "cn.jsonl", "zh.jsonl", "jp.jsonl", "ja.jsonl")


@dataclass(frozen=True)
class Loaded:
    """What was read.

    Attributes:
        records: The records.
        pictures: Encoded pictures by identifier, or None where there are none.
        issues: Number of lines that could not be read.
    """

    records: list[Record]
    pictures: Mapping[str, bytes] | None
    issues: int


class BuiltPictures(Mapping[str, bytes]):
    """The pictures of a data set that oogiri-go built, by identifier, read when asked for."""

    def __init__(self, dataset: OogiriDataset) -> None:
        self._dataset = dataset
        self._places = {one.image: at for at, one in reversed(list(enumerate(dataset))) if one.image is not None}

    def __getitem__(self, key: str) -> bytes:
        data = self._dataset.image_bytes(self._places[key])
        if data is None:
            raise KeyError(key)
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def load_records(
    sources: Sequence[str | os.PathLike[str]],
    *,
    images: str | os.PathLike[str] | None = None,
    lang: str = "auto",
    split: str = "train",
) -> Loaded:
    """Read records.

    Args:
        sources: Files of JSON lines; folders in the published layout (``en.jsonl``, ``cn.jsonl``, ``jp.jsonl``, and
            ``images`` or ``images.zip``); folders with a file for each split (``train.jsonl``); or one folder that
            ``oogiri-go build`` made.
        images: A folder or zip file of pictures; None takes what lies in the sources.
        lang: As in `oogiri_go.read_jsonl`.
        split: Which split, where a folder has splits.

    Returns:
        Records, pictures and the number of lines left out.

    Raises:
        FileNotFoundError: A source does not exist or holds nothing to read.
        ValueError: There is no record.
    """
    if not sources:
        raise ValueError("there is no source; name a file of JSON lines or a folder that has one")
    records: list[Record] = []
    issues = 0
    found: Mapping[str, bytes] | None = None if images is None else Pictures(images)
    for source in map(Path, sources):
        if (source / "manifest.json").is_file():
            dataset = OogiriDataset(source, split=split)
            records += dataset
            if images is None:
                found = BuiltPictures(dataset)
            continue
        for path in _files(source, split):
            for one in read_jsonl(path, lang=lang, on_error="collect"):
                if isinstance(one, Issue):
                    issues += 1
                else:
                    records.append(one)
        beside = next((path for path in (source / "images.zip", source / "images") if path.exists()), None)
        if images is None and beside is not None:
            found = Pictures(beside)
    if not records:
        raise ValueError(f"there is no record in {', '.join(map(str, sources))} ({issues} lines cannot be read)")
    return Loaded(records, found, issues)


def _files(source: Path, split: str) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"there is no file or folder {os.fspath(source)!r}")
    if (source / f"{split}.jsonl").is_file():
        return [source / f"{split}.jsonl"]
    found = [source / name for name in _PUBLISHED if (source / name).is_file()]
    if not found:
        raise FileNotFoundError(
            f"the folder {os.fspath(source)!r} has no manifest.json, no {split}.jsonl and none of "
            f"{', '.join(_PUBLISHED)}"
        )
    return found
