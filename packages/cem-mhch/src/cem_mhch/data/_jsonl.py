"""Dialogues as JSON lines, one dialogue a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from sail_core.runs import write_atomic

from cem_mhch._types import Dialogue, Turn

_TURN = ("text", "handoff", "sentiment", "action", "propensity", "cost")


def load_jsonl(path: str | PathLike[str], *, max_turns: int | None = None) -> list[Dialogue]:
    """Read dialogues, one JSON object a line.

    `{"id", "turns": [{"role", "text" and/or "tokens", "handoff", "sentiment", "action", "propensity", "cost"}],
    "satisfaction", "censored"}`; only `id`, `turns` and a turn's `role` and text or tokens must be there, other keys
    are not read. Tokens are ids; names of intents, as BETOLD has them, are joined into a text. `"dialogue_handoff"`
    labels the last turn of a dialogue whose turns have no labels, see `import_betold`.

    Args:
        path: A UTF-8 file.
        max_turns: Only the first turns of each dialogue; None reads all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not such an object; the message has the file, the line, the dialogue and the turn.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(b'{"id": "a", "turns": [{"role": "user", "tokens": [5, 2]}]}')
        ...     _ = file.seek(0)
        ...     load_jsonl(file.name)[0].turns[0].tokens
        (5, 2)
    """
    return [dialogue_from(row, where, max_turns=max_turns) for where, row in json_lines(path)]


def save_jsonl(dialogues: Iterable[Dialogue], path: str | PathLike[str]) -> None:
    """Write dialogues for `load_jsonl`, atomically.

    Args:
        dialogues: Any number.
        path: The file; it is replaced.
    """
    lines = [json.dumps(dialogue_to(one), ensure_ascii=False, separators=(",", ":")) for one in dialogues]
    write_atomic(path, "".join(f"{line}\n" for line in lines))


def json_lines(path: str | PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON-lines file with the place of each; empty lines are left out."""
    for number, raw in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        if not raw.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: not UTF-8 ({error.reason} at byte {error.start}); convert the file") from error
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected an object, got {type(row).__name__}")
        yield where, row


def dialogue_from(row: dict[str, Any], where: str, *, max_turns: int | None = None) -> Dialogue:
    """One dialogue of its object."""
    turns = row.get("turns")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(f"{where}: 'turns' must be a list of objects")
    name = row.get("id")
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise ValueError(f"{where}: 'id' must be a string")
    built = []
    for turn in turns[:max_turns]:
        tokens, text = turn.get("tokens"), turn.get("text")
        if isinstance(tokens, list) and tokens and all(isinstance(token, str) for token in tokens):
            text = " ".join(tokens) if text is None else text
            tokens = None
        if isinstance(tokens, list):
            tokens = tuple(tokens)
        fields = {key: turn.get(key) for key in _TURN} | {"tokens": tokens, "text": text}
        built.append(Turn(role=turn.get("role", "missing"), **fields))
    if type(row.get("dialogue_handoff")) is int and built and all(turn.handoff is None for turn in built):
        built = label_last(built, row["dialogue_handoff"])
    try:
        return Dialogue(
            id=str(name),
            turns=tuple(built),
            satisfaction=row.get("satisfaction"),
            censored=bool(row.get("censored", False)),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def label_last(turns: list[Turn], handoff: int) -> list[Turn]:
    """The label of a whole dialogue on its last turn, 0 on the others."""
    return [replace(turn, handoff=0) for turn in turns[:-1]] + [replace(turns[-1], handoff=handoff)]


def dialogue_to(dialogue: Dialogue) -> dict[str, Any]:
    """The object of one dialogue; what is None is left out."""
    turns = []
    for turn in dialogue.turns:
        fields = {"role": turn.role, "tokens": None if turn.tokens is None else list(turn.tokens)}
        fields |= {key: getattr(turn, key) for key in _TURN}
        turns.append({key: value for key, value in fields.items() if value is not None})
    row: dict[str, Any] = {"id": dialogue.id, "turns": turns}
    if dialogue.satisfaction is not None:
        row["satisfaction"] = dialogue.satisfaction
    if dialogue.censored:
        row["censored"] = True
    return row
