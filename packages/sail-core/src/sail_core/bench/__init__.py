"""Compare implementations of one operation fairly, keep the results as JSON lines and hold them against goals."""

from ._compare import compare as compare
from ._goals import GoalResult as GoalResult
from ._goals import check as check
from ._goals import read_goals as read_goals
from ._memory import peak_bytes as peak_bytes
from ._memory import peak_resident as peak_resident
from ._report import report as report
from ._rows import append_rows as append_rows
from ._rows import make_row as make_row
from ._rows import read_rows as read_rows

__all__ = [
    "GoalResult",
    "append_rows",
    "check",
    "compare",
    "make_row",
    "peak_bytes",
    "peak_resident",
    "read_goals",
    "read_rows",
    "report",
]
