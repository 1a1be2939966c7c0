"""Scoring as a dialogue happens: one scorer a dialogue, hard rules, many sessions."""

from ._rules import Rules as Rules
from ._scorer import Decision as Decision
from ._scorer import StreamingScorer as StreamingScorer
from ._scorer import TooLong as TooLong
from ._sessions import Sessions as Sessions

__all__ = ["Decision", "Rules", "Sessions", "StreamingScorer", "TooLong"]
