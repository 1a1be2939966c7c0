"""What self-refinement starts from: one input for each prompt, and a folder that holds nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from json import dumps
from pathlib import Path

from oogiri_go import Record, groups

from ._draw import draw


@dataclass(frozen=True, slots=True)
class Input:
    """A prompt to refine on.

    Attributes:
        record: Its ground truth, the best-liked answer.
        answers: Every known answer to it.
    """

    record: Record
    answers: tuple[str, ...]


def inputs_of(data: Sequence[Record], seed: int, limit: int | None) -> dict[str, Input]:
    """One input for each prompt; the best-liked answer, the first among equals, is its ground truth."""
    found: dict[str, Input] = {}
    for answers in groups(data).values():
        truth = max(answers, key=lambda one: -1 if one.star is None else one.star)
        if not truth.id:
            raise ValueError("a record has no identifier; read the records with read_jsonl, or give each its record_id")
        found[truth.id] = Input(truth, tuple(one.text for one in answers))
    if limit is not None and limit < len(found):
        chosen = set(sorted(found, key=lambda name: (draw(seed, "limit", name), name))[:limit])
        found = {name: one for name, one in found.items() if name in chosen}
    if not found:
        raise ValueError("there is no prompt to refine on: data is empty, or all of it is held out")
    return found


def digest_of(rows: Iterable[Sequence[str]]) -> str:
    """A digest of rows of strings, 16 hexadecimal digits."""
    whole = blake2b(digest_size=8)
    for row in rows:
        whole.update(dumps(row).encode())
    return whole.hexdigest()


def set_aside(folder: Path) -> None:
    """Move an earlier run's files to the first free ``old-N``."""
    mine = [path for path in folder.glob("*") if path.name in ("config.json", "ledger.jsonl") or _is_round(path)]
    if not mine:
        return
    number = next(at for at in count(1) if not (folder / f"old-{at}").exists())
    (folder / f"old-{number}").mkdir()
    for path in mine:
        path.rename(folder / f"old-{number}" / path.name)


def _is_round(path: Path) -> bool:
    return path.is_dir() and path.name.removeprefix("round-").isdigit()
