"""Evaluation suites: narrative prompts with answers that a machine can check.

One JSON object a line::

    {"id": "color-04", "prompt": "A cat as black as coal sits on the window sill.",
     "questions": [["Is the cat black?", "yes"], ["Is the cat white?", "no"]],
     "options": ["a black cat", "a white cat", "an orange cat", "a grey cat"], "answer": 0}

``options`` are captions of which ``answer`` is the index of the right one; counting prompts also have ``count``.
"""

import json
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

SUITES = ("action", "color", "counting")


@dataclass(frozen=True)
class Item:
    """A prompt and its answers.

    Attributes:
        id: Unique in its suite.
        prompt: The narrative prompt.
        questions: Questions about the picture, each with ``"yes"`` or ``"no"``; both occur, so that a model that
            always says yes is not right.
        options: Captions, one of which fits; at least two.
        answer: The index of the one that fits.
        count: How many things there must be, for counting prompts.
    """

    id: str
    prompt: str
    questions: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()
    answer: int = 0
    count: int | None = None


def load_suite(suite: str | os.PathLike[str]) -> list[Item]:
    """Load a suite of the package or a file of the same form.

    Args:
        suite: ``"action"``, ``"color"`` or ``"counting"`` (30 prompts each), or the path of a JSONL file; there, only
            ``prompt`` is required of a line.

    Returns:
        The items in the order of the file.

    Raises:
        ValueError: The name is unknown, or a line is not as described; it is named.
        FileNotFoundError: There is no such file.

    Example:
        >>> load_suite("counting")[0].prompt
        'Two cats share a basket by the fire.'
    """
    if suite in SUITES:
        name, text = str(suite), (files(__package__) / "_suites" / f"{suite}.jsonl").read_text(encoding="utf-8")
    else:
        path = Path(suite)
        if path.suffix != ".jsonl":
            raise ValueError(f"there is no suite {str(suite)!r}; the suites are {', '.join(SUITES)}, or a .jsonl file")
        if not path.is_file():
            raise FileNotFoundError(f"there is no suite file {path}")
        name, text = str(path), path.read_text(encoding="utf-8")
    items: list[Item] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                items.append(_item(json.loads(line), default=str(number)))
            except (ValueError, TypeError) as error:
                raise ValueError(f"line {number} of the suite {name}: {error}") from None
    if not items:
        raise ValueError(f"the suite {name} has no prompts")
    twice = sorted({one.id for one in items if sum(one.id == other.id for other in items) > 1})
    if twice:
        raise ValueError(f"the suite {name} has the id {twice[0]!r} more than once")
    return items


def _item(row: Any, *, default: str) -> Item:
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise ValueError('expected an object with a "prompt" that is not empty')
    unknown = sorted(row.keys() - Item.__dataclass_fields__.keys())
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; the keys are {', '.join(Item.__dataclass_fields__)}")
    questions = tuple(tuple(pair) for pair in row.get("questions", ()))
    if not all(len(pair) == 2 and pair[1] in ("yes", "no") for pair in questions):
        raise ValueError('"questions" must be pairs of a question and "yes" or "no"')
    options, answer, count = tuple(row.get("options", ())), row.get("answer", 0), row.get("count")
    if options and (len(options) < 2 or not isinstance(answer, int) or not 0 <= answer < len(options)):
        raise ValueError(f'"options" must be at least two captions and "answer" an index into them, not {answer!r}')
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise ValueError(f'"count" must be a whole number, not {count!r}')
    return Item(str(row.get("id", default)), row["prompt"], questions, options, answer, count)
