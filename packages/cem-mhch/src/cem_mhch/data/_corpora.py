"""Public corpora in the files of their authors: ssa, as the CEM repository prepares it, and BETOLD."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from cem_mhch._types import Dialogue, Turn

from ._jsonl import json_lines, label_last


def import_ssa(path: str | PathLike[str]) -> list[Dialogue]:
    """Read the raw lines of the ssa corpora (clothes, makeup).

    `{"sessionID", "score": 1..3, "session": [{"role": "b" or another, "content", "senti": 1..5, "label": 0 or 1}]}`,
    one dialogue a line. Role b is the bot; sentiments 1 and 2 are negative, 3 neutral, 4 and 5 positive; scores become
    0 to 2. Without `label` the turns have no handoff.

    Args:
        path: A UTF-8 file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not such an object.
    """
    found = []
    for where, row in json_lines(path):
        try:
            turns = tuple(
                Turn(
                    role="bot" if turn["role"] == "b" else "user",
                    text=turn["content"],
                    handoff=int(turn["label"]) if "label" in turn else None,
                    sentiment=_sentiment(int(turn["senti"])) if "senti" in turn else None,
                )
                for turn in row["session"]
            )
            satisfaction = int(row["score"]) - 1 if "score" in row else None
            found.append(Dialogue(id=str(row["sessionID"]), turns=turns, satisfaction=satisfaction))
        except (KeyError, TypeError, ValueError) as error:
            said = f"there is no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{where}: not a line of ssa: {said}") from error
    return found


def import_betold(path: str | PathLike[str]) -> list[Dialogue]:
    """Read BETOLD, a JSON list of dialogues of intents and entities.

    The text of a turn is its intent and its entities. The dialogue's label, a late forward or hang-up by the user,
    becomes the handoff of its last turn; the others are 0. The end of a dialogue gives the label away, so evaluate on
    prefixes.

    Args:
        path: A UTF-8 file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a list.
    """
    try:
        rows: Any = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON in UTF-8: {error}") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of dialogues, got {type(rows).__name__}")
    found = []
    for number, row in enumerate(rows):
        where = f"{path}, dialogue {number}"
        try:
            turns = [
                Turn(
                    role={"nlu": "user", "nlg": "bot"}[turn["caller_name"]],
                    text=" ".join([turn["intent"], *(one["entity"] for one in turn["entities"])]),
                )
                for turn in row["utterances_annotations"]
            ]
            label = {"luhf": 1, "not_luhf": 0}[row["LUHF"]]
            labelled = label_last(turns, label) if turns else turns
            found.append(Dialogue(id=f"{Path(path).stem}_{number}", turns=tuple(labelled)))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where}: not a dialogue of BETOLD: {type(error).__name__} {error}") from error
    return found


def _sentiment(raw: int) -> int:
    if not 1 <= raw <= 5:
        raise ValueError(f"senti is {raw}; it must lie in 1 to 5")
    return (raw > 2) + (raw > 3)
