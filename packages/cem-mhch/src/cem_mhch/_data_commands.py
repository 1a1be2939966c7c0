"""The commands under `cem-mhch data`: import, validate, stats, simulate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .data import (
    import_betold,
    import_log,
    import_pickle,
    import_ssa,
    load_jsonl,
    save_jsonl,
    simulate,
    validate,
)

Format = Literal["csv", "jsonl", "chatwoot", "cem-pickle", "rssn-pickle", "dami-pickle", "ssa", "betold"]


@dataclass(frozen=True, kw_only=True)
class ImportCommand:
    """Turn logs, or a public corpus, into labelled dialogues."""

    source: Path
    """The file."""
    out: Path
    """JSON lines to write."""
    format: Format
    map: str = ""
    """Columns of a csv or jsonl log, such as id=chat,role=sender,text=body,time=sent_at."""
    roles: str = ""
    """What the log's roles mean, such as customer=user,staff=human."""


@dataclass(frozen=True, kw_only=True)
class ValidateCommand:
    """Check a file of dialogues; the first fault is printed and the exit code is 2."""

    data: Path
    vocab_size: int | None = None
    max_turns: int | None = None
    max_chars: int | None = None


@dataclass(frozen=True, kw_only=True)
class StatsCommand:
    """Count what a file of dialogues holds."""

    data: Path


@dataclass(frozen=True, kw_only=True)
class SimulateCommand:
    """Write simulated customer-service dialogues with logged decisions."""

    out: Path
    dialogues: int = 400
    seed: int = 0


def import_data(config: ImportCommand) -> None:
    """Import a file."""
    kind = config.format
    if kind in ("csv", "jsonl", "chatwoot"):
        found = import_log(
            config.source, format=kind, columns=pairs(config.map, "map"), roles=pairs(config.roles, "roles")
        )
        save_jsonl(found.dialogues, config.out)
        print(
            f"{len(found.dialogues)} dialogues, {found.censored} of them censored (nobody took over), in {config.out}"
        )
        if found.human_first:
            print(f"{len(found.human_first)} dialogues were left out: a human opened them")
        return
    if config.map or config.roles:
        raise ValueError(f"map and roles belong to logs; the format {kind} has its own columns")
    readers: Mapping[str, Callable[[Path], list[object]]] = {
        "ssa": import_ssa,  # type: ignore[dict-item]
        "betold": import_betold,  # type: ignore[dict-item]
    }
    if kind in readers:
        dialogues = readers[kind](config.source)
    else:
        dialogues = import_pickle(config.source, source=kind.removesuffix("-pickle"))  # type: ignore[arg-type, assignment]
    save_jsonl(dialogues, config.out)  # type: ignore[arg-type]
    print(f"{len(dialogues)} dialogues in {config.out}")


def validate_data(config: ValidateCommand) -> None:
    """Check a file."""
    dialogues = load_jsonl(config.data)
    validate(dialogues, vocab_size=config.vocab_size, max_turns=config.max_turns, max_chars=config.max_chars)
    print(f"{len(dialogues)} dialogues, no fault found")


def stats(config: StatsCommand) -> None:
    """Count."""
    dialogues = load_jsonl(config.data)
    turns = [turn for one in dialogues for turn in one.turns]
    print(f"dialogues      {len(dialogues)}, {sum(one.censored for one in dialogues)} censored")
    print(f"turns          {len(turns)}, longest dialogue {max((len(one.turns) for one in dialogues), default=0)}")
    for role in ("user", "bot", "human"):
        print(f"{role:14} {sum(turn.role == role for turn in turns)}")
    for name in ("handoff", "sentiment", "action"):
        known = [getattr(turn, name) for turn in turns if getattr(turn, name) is not None]
        counts = ", ".join(f"{value}: {known.count(value)}" for value in sorted(set(known)))
        print(f"{name:14} {len(known)} labelled{' (' + counts + ')' if counts else ''}")
    gold = sum(any(turn.handoff for turn in one.turns) for one in dialogues)
    print(f"with handoff   {gold} dialogues")


def simulate_data(config: SimulateCommand) -> None:
    """Simulate."""
    save_jsonl(simulate(config.dialogues, seed=config.seed).dialogues, config.out)
    print(f"{config.dialogues} dialogues in {config.out}")


def pairs(text: str, name: str) -> dict[str, str]:
    """Read `a=b,c=d`.

    Example:
        >>> pairs("role=sender,text=body", "map")
        {'role': 'sender', 'text': 'body'}
    """
    found = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ValueError(f"{name} is {text!r}; expected pairs such as role=sender,text=body")
        found[key.strip()] = value.strip()
    return found
