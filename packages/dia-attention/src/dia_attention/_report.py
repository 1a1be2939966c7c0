"""What attach inserted, as a table."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class AttachRow:
    """One inserted module: its path, width, number of parameters and the blocks or layers that it serves."""

    path: str
    channels: int
    parameters: int
    shared_with: tuple[str, ...]


@dataclass(frozen=True)
class AttachReport:
    """What ``attach`` inserted; ``print(report)`` shows a table.

    Args:
        name: The attention.
        rows: One for each inserted module.
    """

    name: str
    rows: tuple[AttachRow, ...] = field(repr=False)

    @property
    def parameters(self) -> int:
        """The number of parameters added in all."""
        return sum(row.parameters for row in self.rows)

    def __str__(self) -> str:
        table = [("path", "channels", "parameters", "shared with")]
        for row in self.rows:
            first, last, blocks = row.shared_with[0], row.shared_with[-1], len(row.shared_with)
            shared = f"{first} .. {last} ({blocks} blocks)" if blocks > 1 else first
            table.append((row.path, str(row.channels), f"{row.parameters:,}", shared))
        table.append(("total", "", f"{self.parameters:,}", ""))
        wide = [max(len(line[column]) for line in table) for column in range(4)]
        return "\n".join(
            f"{path:<{wide[0]}}  {channels:>{wide[1]}}  {parameters:>{wide[2]}}  {shared}".rstrip()
            for path, channels, parameters, shared in table
        )
