"""One record that a model cannot take must not stop the others."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Asked = TypeVar("Asked", bound=_Named)
Answer = TypeVar("Answer")


def tolerant(
    call: Callable[[Sequence[Asked]], list[Answer]], names: Sequence[str], asked: Sequence[Asked]
) -> tuple[list[tuple[str, Answer]], dict[str, str]]:
    """Ask for all at once; what an error names as its cause is left out, and the rest is asked again.

    Args:
        call: Answers a batch. A ValueError with an attribute ``record_id`` names what it could not answer.
        names: The record that each request belongs to; all requests of a record are left out together.
        asked: The requests.

    Returns:
        (name, answer) in the order of the requests that were answered, and the problem of each record that was left
        out.

    Raises:
        ValueError: An error that names no request.
    """
    problems: dict[str, str] = {}
    while left := [(name, one) for name, one in zip(names, asked, strict=True) if name not in problems]:
        try:
            answers = call([one for _, one in left])
        except ValueError as error:
            cause = getattr(error, "record_id", None)
            bad = next((name for name, one in left if cause is not None and str(cause).startswith(one.id)), None)
            if bad is None:
                raise
            problems[bad] = f"the model cannot take it: {error}"
            continue
        return [(name, answer) for (name, _), answer in zip(left, answers, strict=True)], problems
    return [], problems
