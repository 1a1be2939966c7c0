"""How many instructions of each kind a record gives."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionMix:
    """Shares of the kinds, and how many instructions a record gives on average.

    The paper makes more than 500,000 instructions of 130,000 records, about four of each, and leaves the condition of
    an instruction to answer empty with probability 0.5; the shares of the kinds are not given there and are ours.

    Attributes:
        answer: Share of instructions to answer: with a condition (``"condition"``) or without (``"generate"``).
        select: Share of choices, the tasks in equal parts.
        rank: Share of orders.
        mask: Share of gaps to fill, which T2T and I2T records give.
        p_empty: Probability that an instruction to answer has no condition.
        per_record: Mean number of instructions of a record, before those that cannot be made are left out.
        tasks: Tasks of the choices.

    Raises:
        ValueError: A share is below 0, all are 0, or another value is out of range.

    Example:
        >>> mix = InstructionMix(select=0, rank=0, mask=0, per_record=2)
        >>> mix.expected()
        {'answer': 2.0, 'select': 0.0, 'rank': 0.0, 'mask': 0.0}
    """

    answer: float = 0.6
    select: float = 0.25
    rank: float = 0.1
    mask: float = 0.05
    p_empty: float = 0.5
    per_record: float = 4.0
    tasks: tuple[str, ...] = ("2T1", "3T1", "4T1", "5T2")

    def __post_init__(self) -> None:
        shares = (self.answer, self.select, self.rank, self.mask)
        if min(shares) < 0 or sum(shares) <= 0:
            raise ValueError(f"the shares are {shares}; expected numbers of at least 0, not all of them 0")
        if not 0 <= self.p_empty <= 1:
            raise ValueError(f"p_empty is {self.p_empty}; expected a probability")
        if not self.per_record > 0:
            raise ValueError(f"per_record is {self.per_record}; expected more than 0 instructions of a record")
        if self.select and not self.tasks:
            raise ValueError("there is no task to select; name some, or set the share of select to 0")
        if wrong := set(self.tasks) - {"2T1", "3T1", "4T1", "5T2"}:
            raise ValueError(f"there is no task {sorted(wrong)[0]!r}; expected some of 2T1, 3T1, 4T1 and 5T2")

    def expected(self) -> dict[str, float]:
        """Give the mean number of instructions of each kind that a record gives."""
        total = self.answer + self.select + self.rank + self.mask
        shares = {"answer": self.answer, "select": self.select, "rank": self.rank, "mask": self.mask}
        return {name: self.per_record * share / total for name, share in shares.items()}
