"""Generation: let the model write its choice and read it strictly, as the paper does; for closed models."""

from collections.abc import Sequence

from ._asked import choice_prompt, rank_prompt
from ._backend import Backend, Prompt, Request
from ._parse import parse_answer, parse_ranking
from ._question import Question, Scored
from ._templates import Templates, one_line


class GenerateScorer:
    """Score options by what the model writes. What cannot be read with certainty has no choice and no scores.

    Args:
        backend: The model; it decodes greedily.
        max_new_tokens: An answer is cut after so many tokens, for each option of a ranking as well.
        templates: The wording; None takes the built-in one.

    Example:
        >>> from clot import EchoBackend, Prompt
        >>> sure = EchoBackend(answer=lambda request, at: "B. No.")
        >>> asked = [Question("q", Prompt("Why?"), ("Yes.", "No."), "en")]
        >>> GenerateScorer(sure).select(asked)[0].choice
        (1,)
        >>> GenerateScorer(sure).rank(asked)[0].parsed
        False
    """

    def __init__(self, backend: Backend, *, max_new_tokens: int = 64, templates: Templates | None = None) -> None:
        self.backend = backend
        self.max_new_tokens = max_new_tokens
        self.templates = templates or Templates()

    def select(self, questions: Sequence[Question]) -> list[Scored]:
        """Read the options that the model names; a chosen one scores 1, another 0."""
        texts = self._write([(one, choice_prompt(self.templates, one, one.options), one.n_right) for one in questions])
        scored = []
        for question, text in zip(questions, texts, strict=True):
            choice = parse_answer(text, len(question.options), options=_shown(question))
            if choice is None:
                scored.append(Scored(question.id, None, None, parsed=False))
            else:
                scores = tuple(float(at in choice) for at in range(len(question.options)))
                scored.append(Scored(question.id, scores, choice))
        return scored

    def rank(self, questions: Sequence[Question]) -> list[Scored]:
        """Read the order that the model gives; the first of n scores n - 1, the last 0."""
        texts = self._write([(one, rank_prompt(self.templates, one), len(one.options)) for one in questions])
        scored = []
        for question, text in zip(questions, texts, strict=True):
            order = parse_ranking(text, len(question.options), options=_shown(question))
            if order is None:
                scored.append(Scored(question.id, None, None, parsed=False))
            else:
                scores = tuple(float(len(order) - 1 - order.index(at)) for at in range(len(order)))
                scored.append(Scored(question.id, scores, tuple(sorted(order[: question.n_right]))))
        return scored

    def _write(self, asked: Sequence[tuple[Question, Prompt, int]]) -> list[str]:
        requests = [
            Request(one.id, prompt, max_new_tokens=self.max_new_tokens * lines, temperature=0.0)
            for one, prompt, lines in asked
        ]
        return [one.texts[0] for one in self.backend.generate(requests)] if requests else []


def _shown(question: Question) -> list[str]:
    return [one_line(option) for option in question.options]
