"""The authors' pickles, read by an unpickler that can build arrays and nothing else."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from cem_mhch._types import Dialogue, Turn


class _ArrayUnpickler(pickle.Unpickler):
    """Nothing is imported by name: the five globals that arrays need are handed out, all others refused."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        known = module.replace("numpy._core", "numpy.core")  # newer numpy writes the first
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (known, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not among the allowed numpy globals")
        return self.allowed[known, name]


def _latin1(text: str, encoding: str) -> bytes:
    """The bytes of an array that protocol 2 stored as text; no other codec is run."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes by {encoding!r}; arrays use latin1")
    return text.encode("latin1")


def load_arrays(path: str | PathLike[str]) -> list[Any]:
    """Read the concatenated pickles of a file: arrays, numbers, strings and containers of them.

    Args:
        path: The file. Nothing in it can run: any global but numpy's array constructors is refused.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no pickle, or names something else.
    """
    stream = io.BytesIO(Path(path).read_bytes())
    size = len(stream.getbuffer())
    parts = []
    while stream.tell() < size:
        try:
            parts.append(_ArrayUnpickler(stream, encoding="latin1").load())
        except Exception as error:  # a damaged stream may raise nearly anything
            raise ValueError(f"{path}, pickle {len(parts)}: refused: {error}") from error
    return parts


def import_pickle(path: str | PathLike[str], *, source: Literal["cem", "rssn", "dami"]) -> list[Dialogue]:
    """Read a data file of the authors' repositories.

    `cem` and `rssn` files hold ids, lengths of turns, lengths of dialogues, session ids, roles (1 user, 0 bot),
    handoffs, sentiments and satisfactions; `dami` files hold ids, roles (0 user, 1 bot), term frequencies, parts of
    speech, polarities, lengths of turns, lengths of dialogues and handoffs.

    Args:
        path: The pickle.
        source: Whose layout it has.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is refused, see `load_arrays`, or has another layout.
    """
    if source not in ("cem", "rssn", "dami"):
        raise ValueError(f"source is {source!r}; it must be cem, rssn or dami")
    parts = load_arrays(path)
    if len(parts) != 8:
        raise ValueError(f"{path}: it holds {len(parts)} pickles, the layout {source!r} has 8")
    if source == "dami":
        ids, role, _, _, _, lengths, _, handoff = parts
        names, sentiment, satisfaction, user = range(len(ids)), None, None, 0
    else:
        ids, lengths, _, names, role, handoff, sentiment, satisfaction = parts
        user = 1
    try:
        return [
            _dialogue(f"{Path(path).stem}_{name}", at, user, ids, lengths, role, handoff, sentiment, satisfaction)
            for at, name in enumerate(names)
        ]
    except (IndexError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: its arrays do not have the layout {source!r}: {error}") from error


def _dialogue(
    name: str,
    at: int,
    user: int,
    ids: Sequence[Any],
    lengths: Sequence[Any],
    role: Sequence[Any],
    handoff: Sequence[Any],
    sentiment: Sequence[Any] | None,
    satisfaction: Sequence[Any] | None,
) -> Dialogue:
    """One dialogue; the sources clip its length to 50 turns, but neither ids nor labels, which say how long it is."""
    labels = np.asarray(handoff[at]).reshape(-1)
    count = min(len(ids[at]), len(labels))
    turns = []
    for turn in range(count):
        length = int(np.asarray(lengths[at]).reshape(-1)[turn])
        tokens = np.asarray(ids[at][turn]).reshape(-1)[:length]
        turns.append(
            Turn(
                role="user" if int(np.asarray(role[at]).reshape(-1)[turn]) == user else "bot",
                tokens=tuple(int(token) for token in tokens if token > 0),
                handoff=int(labels[turn]),
                sentiment=None if sentiment is None else int(np.asarray(sentiment[at]).reshape(-1)[turn]),
            )
        )
    gold = None if satisfaction is None else int(np.asarray(satisfaction[at]).reshape(-1)[0])
    return Dialogue(id=name, turns=tuple(turns), satisfaction=gold)
