"""Many dialogues at once, the least recently used forgotten first."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from ._scorer import Decision, StreamingScorer


class Sessions:
    """Scorers by the name of their session, at most so many.

    Args:
        make: Builds the scorer of a new session.
        max_sessions: The least recently used is dropped beyond it; at least 1.

    Attributes:
        evicted: How many were dropped so.

    Raises:
        ValueError: The limit is below 1.
    """

    def __init__(self, make: Callable[[], StreamingScorer], *, max_sessions: int = 10_000) -> None:
        if max_sessions < 1:
            raise ValueError(f"max_sessions is {max_sessions}; give at least 1")
        self.max_sessions, self.evicted = max_sessions, 0
        self._make = make
        self._scorers: OrderedDict[str, StreamingScorer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._scorers)

    def __contains__(self, name: str) -> bool:
        return name in self._scorers

    def get(self, name: str) -> StreamingScorer:
        """The scorer of a session, a new one where there is none; it is now the most recently used."""
        scorer = self._scorers.get(name)
        if scorer is None:
            scorer = self._make()
            self._keep(name, scorer)
        else:
            self._scorers.move_to_end(name)
        return scorer

    def push(self, name: str, role: str, turn: str | Sequence[int]) -> Decision:
        """Score one more turn of a session; a first turn that is refused opens none, and drops none.

        Raises:
            ValueError: As `StreamingScorer.push`.
        """
        if name in self._scorers:
            return self.get(name).push(role, turn)
        scorer = self._make()
        decision = scorer.push(role, turn)
        self._keep(name, scorer)
        return decision

    def _keep(self, name: str, scorer: StreamingScorer) -> None:
        self._scorers[name] = scorer
        if len(self._scorers) > self.max_sessions:
            self._scorers.popitem(last=False)
            self.evicted += 1

    def drop(self, name: str) -> bool:
        """Forget a session; whether there was one."""
        return self._scorers.pop(name, None) is not None
