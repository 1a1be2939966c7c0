"""One candidate of self-refinement and the states it passes through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

State = Literal["", "planned", "generated", "ranked", "selected", "kept", "dropped"]

NEXT: Final[Mapping[State, tuple[State, ...]]] = {
    "": ("planned",),
    "planned": ("generated", "dropped"),  # its picture does not load
    "generated": ("ranked", "dropped"),  # a gate drops it
    "ranked": ("selected", "dropped"),  # two are selected from
    "selected": ("kept", "dropped"),  # the ground truth, or the other of the two, was preferred
    "kept": (),
    "dropped": (),
}
"""After each state, those that may follow."""

# What each state adds to a candidate, in the order of the line.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "planned": ("condition",),
    "generated": ("text",),
    "ranked": ("rank", "score"),
    "selected": ("preference", "truth", "chosen"),
    "kept": ("margin",),
    "dropped": ("reason",),
}

Move = tuple[State, Mapping[str, Any]]
"""A next state, with the values of its `FIELDS`."""


@dataclass(slots=True)
class Candidate:
    """An answer that the model proposes for a record's prompt.

    Attributes:
        record: Identifier of the record whose prompt it answers.
        index: Its number among the candidates of that record, from 0.
        state: The last state that was reached, ``""`` before the first.
        condition: The noun it was asked to hold, or None.
        text: The answer.
        rank: Its place among the candidates of its record, from 1.
        score: Its score among them, None where it is the only one.
        preference: Its score beside the other of the two and the ground truth.
        truth: The score of the ground truth there.
        chosen: Whether it was chosen there.
        margin: How far its preference lies above the next one.
        reason: Why it was dropped.
    """

    record: str
    index: int
    state: State = ""
    condition: str | None = None
    text: str | None = None
    rank: int | None = None
    score: float | None = None
    preference: float | None = None
    truth: float | None = None
    chosen: bool | None = None
    margin: float | None = None
    reason: str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return not NEXT[self.state]

    def move(self, state: State, fields: Mapping[str, Any]) -> None:
        """Enter the next state with what it adds.

        Raises:
            ValueError: The state cannot follow, or something else is added.
        """
        if state not in NEXT[self.state]:
            expected = " or ".join(NEXT[self.state]) or "nothing"
            raise ValueError(f"the state {state!r} cannot follow {self.state!r}; expected {expected}")
        if tuple(fields) != FIELDS[state]:
            raise ValueError(
                f"the state {state!r} has {', '.join(FIELDS[state])}, not {', '.join(fields) or 'nothing'}"
            )
        self.state = state
        for name, value in fields.items():
            setattr(self, name, value)


@dataclass(slots=True)
class Block:
    """The candidates of a few records, which go through the stages together.

    A stage moves every candidate that is not final by one state.

    Attributes:
        round: The round, from 1.
        candidates: The candidates, record by record, in the order of their numbers.
    """

    round: int
    candidates: list[Candidate] = field(default_factory=list)

    @classmethod
    def of(cls, round: int, records: Sequence[str], n: int) -> "Block":
        """Begin with ``n`` candidates for each record."""
        return cls(round, [Candidate(record, index) for record in records for index in range(n)])

    def pending(self) -> list[Candidate]:
        """Those that are not final."""
        return [one for one in self.candidates if not one.final]

    def by_record(self) -> dict[str, list[Candidate]]:
        """Those that are not final, by record."""
        found: dict[str, list[Candidate]] = {}
        for one in self.pending():
            found.setdefault(one.record, []).append(one)
        return found
