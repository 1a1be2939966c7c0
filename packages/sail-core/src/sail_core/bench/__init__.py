"""Compare implementations of one operation fairly, keep the results as JSON lines and hold them against goals."""

from ._compare import compare as compare
from ._goals import GoalResult as GoalResult
from ._goals import check as check
from ._goals import read_goals as read_goals
from ._report import report as report
from ._rows import append_rows as append_rows
from ._rows import read_rows as read_rows

__all__ = ["GoalResult", "append_rows", "check", "compare", "read_goals", "read_rows", "report"]
