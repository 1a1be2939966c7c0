"""Instructions as JSON lines: what `clot prepare` writes and `clot train` reads."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ._backend import Prompt
from ._instructions import KINDS, Instruction


def write_instructions(instructions: Iterable[Instruction], path: str | os.PathLike[str]) -> tuple[dict[str, int], str]:
    """Write instructions, atomically and in constant memory; pictures are written as identifiers.

    Args:
        instructions: Instructions.
        path: The file.

    Returns:
        The number of each kind, and the SHA-256 of the file.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{os.urandom(6).hex()}")
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    digest = hashlib.sha256()
    try:
        with temporary.open("xb") as file:
            for one in instructions:
                counts[one.kind] += 1
                line = json.dumps(_row(one), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return counts, digest.hexdigest()


def read_instructions(
    path: str | os.PathLike[str], *, pictures: Mapping[str, bytes] | None = None
) -> Iterator[Instruction]:
    """Read what `write_instructions` wrote.

    Args:
        path: The file.
        pictures: Encoded pictures by identifier, put into the prompts; None leaves them out.

    Yields:
        Instructions.

    Raises:
        ValueError: A line has another form, or its picture is not there; the message has its number.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of instructions {os.fspath(path)!r}")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row: dict[str, Any] = json.loads(line)
                if row["kind"] not in KINDS:
                    raise ValueError(f"there is no kind {row['kind']!r}")
                image = row["image"]
                data = None if image is None or pictures is None else pictures.get(image)
                if image is not None and pictures is not None and data is None:
                    raise ValueError(f"its picture {image!r} is missing")
                yield Instruction(
                    row["id"],
                    row["kind"],
                    row["game"],
                    row["lang"],
                    Prompt(row["prompt"], data),
                    row["target"],
                    row["record"],
                    tuple(row["options"]),
                    tuple(row["answer"]),
                    image,
                )
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path.name}, line {number}: {error}; expected what `clot prepare` writes") from None


def _row(one: Instruction) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "game": one.game,
        "lang": one.lang,
        "prompt": one.prompt.text,
        "target": one.target,
        "record": one.record_id,
        "image": one.image,
        "options": one.options,
        "answer": one.answer,
    }
