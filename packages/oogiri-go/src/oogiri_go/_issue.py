"""What is wrong with a line or a picture, and the error that carries it."""

import os

import msgspec


class Issue(msgspec.Struct, frozen=True):
    """One defect of the input, typed, with its place.

    Attributes:
        line: Number of the line, from 1; 0 where the defect is not in a line (a picture, an archive).
        offset: Byte offset at which the line begins in its file; 0 where there is none.
        code: What kind of defect, a stable word such as ``"json"``, ``"utf8"``, ``"star"`` or ``"image-truncated"``.
        message: What came and what was expected.

    Example:
        >>> Issue(3, 210, "star", "star is -1; expected an integer of at least 0, or null").code
        'star'
    """

    line: int
    offset: int
    code: str
    message: str


class DataError(ValueError):
    """The input has a defect, and the caller asked for an error.

    Attributes:
        issue: The defect.
        path: The file that has it.
    """

    def __init__(self, issue: Issue, path: str | os.PathLike[str]) -> None:
        self.issue = issue
        self.path = os.fspath(path)
        place = f", line {issue.line} (byte {issue.offset})" if issue.line else ""
        super().__init__(f"{self.path}{place}: {issue.message} [{issue.code}]")

    def __reduce__(self) -> tuple[type["DataError"], tuple[Issue, str]]:
        return type(self), (self.issue, self.path)


class Defect(ValueError):
    """A defect whose place only the caller knows."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["Defect"], tuple[str, str]]:
        return type(self), (self.code, self.message)
