"""Answers kept while an evaluation runs, so that a killed one goes on where it was."""

import json
import os
from collections.abc import Sequence
from dataclasses import astuple
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ._question import Question, Scored

Batch = tuple[list[tuple[str, Scored]], dict[str, str]]


class Answers:
    """A file with one line a batch. A line that was cut by a kill is as good as none.

    Args:
        path: The file; None keeps nothing.
        key: What the answers depend on beside the questions; a file with another key is begun anew.
    """

    def __init__(self, path: str | os.PathLike[str] | None, key: dict[str, Any]) -> None:
        self._path = None if path is None else Path(path)
        self._known: dict[str, Batch] = {}
        if self._path is None:
            return
        head = (json.dumps({"key": key}, sort_keys=True) + "\n").encode()
        data = self._path.read_bytes() if self._path.is_file() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if whole.startswith(head):
            for line in whole[len(head) :].splitlines():
                row = json.loads(line)
                given = [(name, _scored(fields)) for name, fields in row["given"]]
                self._known[row["batch"]] = given, row["problems"]
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        else:
            self._path.write_bytes(head)

    def get(self, name: str) -> Batch | None:
        """What a batch was answered, or None."""
        return self._known.get(name)

    def put(self, name: str, batch: Batch) -> None:
        """Keep the answers of a batch; they are on the disk when this returns."""
        if self._path is None:
            return
        given, problems = batch
        row = {"batch": name, "given": [(one, astuple(scored)) for one, scored in given], "problems": problems}
        with self._path.open("ab") as file:
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def batch_name(task: str, questions: Sequence[Question]) -> str:
    """Names what is asked by all that it consists of."""
    digest = blake2b(digest_size=16)
    for one in questions:
        digest.update(repr((one.id, one.prompt_head.text, one.options, one.n_right, one.lang, one.game)).encode())
        digest.update(b"" if one.prompt_head.image is None else blake2b(one.prompt_head.image).digest())
    return f"{task}-{digest.hexdigest()}"


def _scored(fields: Sequence[Any]) -> Scored:
    name, scores, choice, parsed, missing = fields
    scores, choice = (None if one is None else tuple(one) for one in (scores, choice))
    return Scored(name, scores, choice, parsed, missing)
