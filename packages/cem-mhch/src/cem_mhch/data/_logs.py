"""A team's own logs: tables of messages, and the export of Chatwoot."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from cem_mhch._types import Dialogue, Turn

from ._handoffs import label_handoff
from ._jsonl import json_lines

COLUMNS = {"id": "id", "role": "role", "text": "text", "time": "time"}


@dataclass(frozen=True)
class ImportResult:
    """Imported dialogues, labelled and in the order in which they first appear.

    Attributes:
        dialogues: Those with at least one turn before a human's.
        human_first: Ids of those that a human opened; they are left out.
    """

    dialogues: list[Dialogue]
    human_first: list[str] = field(default_factory=list)

    @property
    def censored(self) -> int:
        """Number of dialogues in which nobody took over."""
        return sum(dialogue.censored for dialogue in self.dialogues)


def import_log(
    path: str | PathLike[str],
    *,
    format: Literal["csv", "jsonl", "chatwoot"],
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
) -> ImportResult:
    """Turn a log into labelled dialogues, see `label_handoff`.

    Args:
        path: A UTF-8 file. `csv` and `jsonl` have one message a row; `chatwoot` is a JSON list of conversations with
            their `messages`, or one a line.
        format: Which of the three.
        columns: Names of the columns that hold `id` (of the dialogue), `role`, `text` and `time`; a missing name is the
            word itself. Rows of a dialogue are ordered by time where there is one (a number or ISO 8601), else kept.
        roles: What a role's word in the log means, such as `{"customer": "user", "staff": "human"}`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row cannot be read; the message has its place.
    """
    if format == "chatwoot":
        if columns or roles:
            raise ValueError("the chatwoot format has columns and roles of its own; leave the map out")
        messages: Iterable[_Message] = _chatwoot(path)
    elif format in ("csv", "jsonl"):
        strange = set(columns or {}) - set(COLUMNS)
        if strange:
            raise ValueError(f"the map names {sorted(strange)}; it can name {', '.join(COLUMNS)}")
        rows = _csv_rows(path) if format == "csv" else json_lines(path)
        messages = _mapped(rows, COLUMNS | dict(columns or {}), dict(roles or {}))
    else:
        raise ValueError(f"format is {format!r}; it must be csv, jsonl or chatwoot")
    return _group(messages, path)


@dataclass(frozen=True)
class _Message:
    where: str
    dialogue: str
    role: str
    text: str
    time: float | None


def _group(messages: Iterable[_Message], path: str | PathLike[str]) -> ImportResult:
    grouped: dict[str, list[_Message]] = {}
    for message in messages:
        grouped.setdefault(message.dialogue, []).append(message)
    if not grouped:
        raise ValueError(f"{path}: there is no message in it")
    result = ImportResult([])
    for name, rows in grouped.items():
        if all(row.time is not None for row in rows):
            rows.sort(key=lambda row: row.time or 0.0)
        elif any(row.time is not None for row in rows):
            raise ValueError(f"{rows[0].where}: only some messages of dialogue {name!r} have a time; give all or none")
        log = Dialogue(id=name, turns=tuple(Turn(role=row.role, text=row.text) for row in rows))
        labelled = label_handoff(log)
        if labelled is None:
            result.human_first.append(name)
        else:
            result.dialogues.append(labelled)
    return result


def _mapped(
    rows: Iterable[tuple[str, dict[str, Any]]], columns: Mapping[str, str], roles: Mapping[str, str]
) -> Iterator[_Message]:
    for where, row in rows:
        for name in ("id", "role", "text"):
            if row.get(columns[name]) is None:
                known = ", ".join(map(str, row)) or "none"
                raise ValueError(f"{where}: no column {columns[name]!r} for {name}; there are {known} (see the map)")
        role = str(row[columns["role"]])
        yield _Message(
            where=where,
            dialogue=str(row[columns["id"]]),
            role=roles.get(role, role.strip().lower()),
            text=str(row[columns["text"]]),
            time=_time(row.get(columns["time"]), where),
        )


def _csv_rows(path: str | PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert the file") from error
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            yield f"{path}, line {reader.line_num}", {key: value for key, value in row.items() if key is not None}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}") from error


def _chatwoot(path: str | PathLike[str]) -> Iterator[_Message]:
    """Messages: type 0 incoming, 1 outgoing, 2 activity, 3 template; an outgoing one is a human's if a user sent it."""
    for where, row in _conversations(path):
        for number, message in enumerate(row.get("messages") or []):
            place = f"{where}, message {number}"
            if not isinstance(message, dict):
                raise ValueError(f"{place}: expected an object")
            kind = message.get("message_type")
            if kind in (2, "activity") or message.get("private"):
                continue
            sender = message.get("sender")
            sender_type = message.get("sender_type") or (sender.get("type") if isinstance(sender, dict) else None)
            if kind in (0, "incoming"):
                role = "user"
            elif kind in (1, "outgoing", 3, "template"):
                role = "human" if str(sender_type).lower() == "user" else "bot"
            else:
                raise ValueError(f"{place}: message_type is {kind!r}; expected 0 to 3 or its name")
            yield _Message(
                where=place,
                dialogue=str(row["id"]),
                role=role,
                text=str(message.get("content") or ""),
                time=_time(message.get("created_at"), place),
            )


def _conversations(path: str | PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    raw = Path(path).read_bytes()
    if raw.lstrip()[:1] == b"[":
        try:
            rows = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON: {error}") from error
        found = ((f"{path}, conversation {number}", row) for number, row in enumerate(rows))
    else:
        found = ((where, row) for where, row in json_lines(path))
    for where, row in found:
        if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("messages"), list):
            raise ValueError(f"{where}: expected a conversation with 'id' and 'messages'")
        yield where, row


def _time(value: Any, where: str) -> float | None:
    """Seconds of a number or of an ISO 8601 text; one without a zone is taken as UTC."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError(f"{where}: the time {value!r} is neither a number nor ISO 8601") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
