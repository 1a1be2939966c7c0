"""A run directory: its configuration, its environment, its metrics."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ._atomic import write_atomic
from ._env import env_report


class Run:
    """The directory of one run: ``config.json``, ``env.json`` and ``metrics.jsonl``.

    A directory that exists is continued. ``env.json`` describes the environment of the last start.

    Args:
        directory: Made when missing.
        config: The dataclass instance or mapping that defines the run; None writes and compares nothing. Paths are
            stored as strings, enum members by name, tuples as lists.

    Raises:
        ValueError: The directory belongs to another configuration (the message names the fields that differ), or its
            config.json cannot be read.
        TypeError: ``config`` is no dataclass instance or mapping, or holds a value that JSON cannot.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run(folder, config={"lr": 0.1})
        ...     run.log(1, loss=0.5)
        ...     run.log(2, loss=float("nan"))
        ...     run.rewind(1)
        ...     print((run.directory / "metrics.jsonl").read_text(), end="")
        {"step": 1, "loss": 0.5}
    """

    directory: Path

    def __init__(self, directory: str | os.PathLike[str], *, config: Any = None) -> None:
        self.directory = Path(directory)
        self._metrics = self.directory / "metrics.jsonl"
        self._whole_lines = False
        described = None if config is None else _describe(config)
        self.directory.mkdir(parents=True, exist_ok=True)
        if described is not None:
            _claim(self.directory / "config.json", described)
        write_atomic(self.directory / "env.json", json.dumps(env_report(), indent=1) + "\n")

    def log(self, step: int, **scalars: Any) -> None:
        """Append one row to ``metrics.jsonl``; it is with the operating system when this returns.

        Every row is strict JSON. A float that JSON lacks is stored as the string ``"NaN"``, ``"Infinity"`` or
        ``"-Infinity"``, which ``float()`` reads.

        Args:
            step: The step the row belongs to.
            scalars: bool, int, float, str, None, or anything with an ``item()`` that gives one: 0-dim tensors, NumPy
                scalars.

        Raises:
            TypeError: A value is none of these.
        """
        row = {"step": _scalar("step", step), **{name: _scalar(name, value) for name, value in scalars.items()}}
        if type(row["step"]) is not int:
            raise TypeError(f"step is {step!r} of type {type(step).__name__}; it must be an int")
        if not self._whole_lines:  # a killed run may have left half a line, and a row must not be glued to it
            self._trim()
        with self._metrics.open("ab") as file:
            file.write(json.dumps(row, allow_nan=False).encode() + b"\n")

    def rewind(self, step: int) -> None:
        """Drop the rows after ``step``, and a last line that a kill left unfinished, atomically.

        Call it when resuming, with the step of the checkpoint: the rows of the steps that are done again go away.

        Args:
            step: The last step to keep.

        Raises:
            ValueError: A line is not a row; the message names it. Nothing was dropped.
        """
        if not self._metrics.exists():
            return
        lines = self._metrics.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        kept = []
        for number, line in enumerate(lines, start=1):
            try:
                row_step = json.loads(line)["step"]
                keep = row_step <= step
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {self._metrics} is not a row with a step: mend or delete that line"
                ) from error
            if keep:
                kept.append(line)
        write_atomic(self._metrics, b"".join(kept))
        self._whole_lines = True

    def _trim(self) -> None:
        with suppress(FileNotFoundError), self._metrics.open("r+b") as file:
            content = file.read()
            if not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
        self._whole_lines = True


def _scalar(name: str, value: Any) -> bool | int | float | str | None:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if type(value) is float and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if value is None or type(value) in (bool, int, float, str):
        return value  # type: ignore[no-any-return]
    raise TypeError(f"{name} is of type {type(value).__name__}; a metric is a bool, int, float, str or None")


def _describe(config: Any) -> dict[str, Any]:
    if is_dataclass(config) and not isinstance(config, type):
        return {"class": type(config).__name__, "config": _json(config, "config")}
    if isinstance(config, Mapping):
        return {"class": None, "config": _json(config, "config")}
    raise TypeError(f"config is of type {type(config).__name__}; it must be a dataclass instance or a mapping")


def _json(value: Any, path: str) -> Any:
    """Turn a configuration into what JSON gives back, so that it can be compared with a stored one."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _json(getattr(value, field.name), f"{path}.{field.name}") for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _json(one, f"{path}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one, f"{path}[{index}]") for index, one in enumerate(value)]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _scalar(path, value)


def _claim(path: Path, described: dict[str, Any]) -> None:
    """Write config.json, or check that the one there says the same."""
    if not path.exists():
        write_atomic(path, json.dumps(described, indent=1, allow_nan=False) + "\n")
        return
    try:
        stored = json.loads(path.read_bytes())
        there = {"class": stored["class"], **_flat(stored["config"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it or use another directory") from error
    here = {"class": described["class"], **_flat(described["config"])}
    absent = object()
    differing = [
        f"{name} ({there.get(name, 'absent')!r} there, {here.get(name, 'absent')!r} now)"
        for name in dict.fromkeys([*there, *here])
        if there.get(name, absent) != here.get(name, absent)
    ]
    if differing:
        raise ValueError(
            f"{path.parent} belongs to a run with another configuration: {', '.join(differing)}; "
            "use another directory, or delete this one to start again"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
