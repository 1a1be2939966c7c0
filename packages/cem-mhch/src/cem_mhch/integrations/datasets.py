"""Dialogues to and from Hugging Face datasets: one row a dialogue, its turns a list of structures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sail_core.extras import needs

from cem_mhch._types import Dialogue
from cem_mhch.data._jsonl import dialogue_from

with needs("cem-mhch", "datasets"):
    from datasets import Dataset, Features, List, Value  # type: ignore[import-untyped]


def features() -> Features:
    """The columns: `id`, `satisfaction`, `censored` and `turns`, a list of structures with the fields of `Turn`."""
    turn = {
        "role": Value("string"),
        "text": Value("string"),
        "tokens": List(Value("int64")),
        **{name: Value("int8") for name in ("handoff", "sentiment", "action")},
        **{name: Value("float64") for name in ("propensity", "cost")},
    }
    return Features(
        {"id": Value("string"), "turns": List(turn), "satisfaction": Value("int8"), "censored": Value("bool")}
    )


def to_dataset(dialogues: Sequence[Dialogue]) -> Dataset:
    """Convert dialogues; what a turn does not have is null.

    Args:
        dialogues: Any number.
    """
    shape = features()
    names = list(shape["turns"].feature)
    rows = [
        {
            "id": one.id,
            "turns": [{name: getattr(turn, name) for name in names} for turn in one.turns],
            "satisfaction": one.satisfaction,
            "censored": one.censored,
        }
        for one in dialogues
    ]
    return Dataset.from_list(rows, features=shape)


def from_dataset(rows: Iterable[dict[str, Any]]) -> list[Dialogue]:
    """Convert rows with the columns of `features`, or with those of `load_jsonl`, into dialogues.

    Args:
        rows: A `datasets.Dataset`, or any iterable of its rows.

    Raises:
        ValueError: A row cannot be read; the message has its number, the dialogue and the turn.
    """
    return [dialogue_from(dict(row), f"row {number}") for number, row in enumerate(rows)]
