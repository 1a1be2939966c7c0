"""Ways to ask a model which of some options is best: by letters, by the options' own probability, or by its words.

A scorer has two calls: `select` asks which options are right, `rank` asks for an order of all.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol, runtime_checkable

from ._backend import Backend
from ._content import ContentScorer
from ._generated import GenerateScorer
from ._letters import LetterScorer
from ._question import Question, Scored
from ._templates import Templates

__all__ = [
    "ContentScorer",
    "GenerateScorer",
    "LetterScorer",
    "Scorer",
    "ScorerName",
    "scorer_of",
    "swap_heads",
]

ScorerName = Literal["letter", "content", "pmi", "generate"]


@runtime_checkable
class Scorer(Protocol):
    """Anything that answers questions with options.

    Example:
        >>> from clot import EchoBackend
        >>> isinstance(LetterScorer(EchoBackend()), Scorer)
        True
    """

    def select(self, questions: Sequence[Question]) -> list[Scored]:
        """Choose ``n_right`` options of each question."""

    def rank(self, questions: Sequence[Question]) -> list[Scored]:
        """Order all options of each question."""


def scorer_of(
    name: ScorerName,
    backend: Backend,
    *,
    permutations: Literal["cyclic", "none"] = "cyclic",
    templates: Templates | None = None,
) -> Scorer:
    """Make the scorer of a name.

    Args:
        name: ``"letter"``, ``"content"`` (log-likelihood a token), ``"pmi"`` or ``"generate"``.
        backend: The model.
        permutations: For ``"letter"``.
        templates: The wording; None takes the built-in one.

    Returns:
        The scorer.

    Raises:
        ValueError: There is none of this name.

    Example:
        >>> from clot import EchoBackend
        >>> type(scorer_of("pmi", EchoBackend())).__name__
        'ContentScorer'
    """
    if name == "letter":
        return LetterScorer(backend, permutations=permutations, templates=templates)
    if name == "content":
        return ContentScorer(backend, templates=templates)
    if name == "pmi":
        return ContentScorer(backend, normalise="pmi", templates=templates)
    if name == "generate":
        return GenerateScorer(backend, templates=templates)
    raise ValueError(f"there is no scorer {name!r}; expected 'letter', 'content', 'pmi' or 'generate'")


def swap_heads(questions: Sequence[Question]) -> list[Question]:
    """Give each question the picture and text of another one, as a control: whoever still answers does not look.

    Questions are exchanged within language and game, each gets the head of the next one with another head.

    Args:
        questions: Questions.

    Returns:
        The questions that there is another head for, their options and answers unchanged, in the same order.

    Example:
        >>> from clot import Prompt
        >>> rows = [Question(str(at), Prompt(f"Why {at}?"), ("Yes.", "No."), "en") for at in range(3)]
        >>> [one.prompt_head.text for one in swap_heads(rows)]
        ['Why 1?', 'Why 2?', 'Why 0?']
    """
    alike: dict[tuple[str, str], list[int]] = {}
    for at, one in enumerate(questions):
        alike.setdefault((one.lang, one.game), []).append(at)
    swapped: dict[int, Question] = {}
    for places in alike.values():
        heads = [questions[at].prompt_head for at in places]
        for offset, at in enumerate(places):
            others = heads[offset + 1 :] + heads[:offset]
            other = next((head for head in others if head != heads[offset]), None)
            if other is not None:
                swapped[at] = replace(questions[at], prompt_head=other)
    return [swapped[at] for at in sorted(swapped)]
