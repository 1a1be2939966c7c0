"""What a model must offer: write answers, and say how probable given continuations are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything that a model reads before it answers.

    Attributes:
        text: The user's message: instruction, question, options, condition.
        image: An encoded picture (PNG, JPEG, WebP or GIF), or None.

    Example:
        >>> Prompt("Why?").image is None
        True
    """

    text: str
    image: bytes | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to be answered n times.

    Attributes:
        id: Names the request in errors and in what comes back.
        prompt: The prompt.
        n: Number of answers.
        max_new_tokens: An answer is cut after so many tokens.
        temperature: 0 is greedy decoding.
        top_p: Only the most probable tokens that make up this mass are drawn from.
        seed: Another number gives other answers.

    Example:
        >>> Request("r1", Prompt("Why?"), n=5).temperature
        1.0
    """

    id: str
    prompt: Prompt
    n: int = 1
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """The answers to a request.

    Attributes:
        id: The request's.
        texts: n answers, without the special tokens that end them.

    Example:
        >>> len(Generation("r1", ("Why not?",)).texts)
        1
    """

    id: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OptionRequest:
    """A prompt and the continuations whose probability is wanted.

    Attributes:
        id: Names the request in errors and in what comes back.
        prompt: The prompt.
        options: Continuations: letters, or whole answers.

    Example:
        >>> OptionRequest("r1", Prompt("A or B?"), ("A", "B")).options
        ('A', 'B')
    """

    id: str
    prompt: Prompt
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OptionLogprobs:
    """How probable the options of a request are.

    Attributes:
        id: The request's.
        logprobs: Of each option, the sum of the log-probabilities of its tokens; finite.
        tokens: Of each option, the number of its tokens; 0 where a server did not give its probability, and what
            stands in ``logprobs`` is the largest value it can have.

    Example:
        >>> OptionLogprobs("r1", (-0.1, -2.3), (1, 1)).tokens
        (1, 1)
    """

    id: str
    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]


@runtime_checkable
class Backend(Protocol):
    """A model, local or behind a server. What comes back has the order of what was asked.

    Attributes:
        digest: Names model, adapter and weights; two backends with one digest answer alike.

    Example:
        >>> from clot import EchoBackend
        >>> isinstance(EchoBackend(), Backend)
        True
    """

    @property
    def digest(self) -> str:
        """Name the model."""

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """Answer each request."""

    def option_logprobs(self, requests: Sequence[OptionRequest]) -> list[OptionLogprobs]:
        """Give the log-probabilities of each request's options."""
