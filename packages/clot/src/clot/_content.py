"""Contents: the probability of the options themselves as answers."""

import math
from collections.abc import Sequence
from typing import Literal

from ._asked import answer_prompt, best, headless_prompt
from ._backend import Backend, OptionLogprobs, OptionRequest, Prompt
from ._question import Question, Scored
from ._templates import Templates, one_line

Normalise = Literal["token", "sum", "pmi"]


class ContentScorer:
    """Score options by how probable they are as answers to the prompt; for models that cannot follow instructions.

    ``"sum"``: log p(option | prompt); ``"token"``: that, a token; ``"pmi"``: log p(option | prompt) - log p(option |
    the same instruction without picture and question), a token

    Short and frequent wording is probable whatever was asked. ``"pmi"`` takes that out; how well an option is told from
    others should be compared with the same on exchanged prompts (`swap_heads`).

    Args:
        backend: The model.
        normalise: ``"token"``, ``"sum"`` or ``"pmi"``.
        templates: The wording; None takes the built-in one.

    Raises:
        ValueError: ``normalise`` has no such value.

    Example:
        >>> from clot import EchoBackend, Prompt
        >>> short = EchoBackend(logprob=lambda prompt, option: -float(len(option)))
        >>> asked = [Question("q", Prompt("Why?"), ("Yes.", "Never ever."), "en")]
        >>> ContentScorer(short, normalise="sum").select(asked)[0].scores
        (-4.0, -11.0)
        >>> ContentScorer(short, normalise="pmi").select(asked)[0].scores
        (0.0, 0.0)
    """

    def __init__(self, backend: Backend, *, normalise: Normalise = "token", templates: Templates | None = None) -> None:
        if normalise not in ("token", "sum", "pmi"):
            raise ValueError(f"normalise is {normalise!r}; expected 'token', 'sum' or 'pmi'")
        self.backend = backend
        self.normalise = normalise
        self.templates = templates or Templates()

    def select(self, questions: Sequence[Question]) -> list[Scored]:
        """Choose the ``n_right`` options of each question with the highest scores."""
        given = self._ask([(one, answer_prompt(self.templates, one)) for one in questions])
        floor = None
        if self.normalise == "pmi":
            floor = self._ask([(one, headless_prompt(self.templates, one)) for one in questions])
        scored = []
        for at, question in enumerate(questions):
            scores = []
            for place, total in enumerate(given[at].logprobs):
                total -= floor[at].logprobs[place] if floor is not None else 0.0
                scores.append(total if self.normalise == "sum" else total / max(1, given[at].tokens[place]))
            if any(math.isnan(one) for one in scores):
                raise ValueError(f"question {question.id}: a log-probability is nan")
            scored.append(Scored(question.id, tuple(scores), best(scores, question.n_right)))
        return scored

    def rank(self, questions: Sequence[Question]) -> list[Scored]:
        """Order the options of each question by their scores."""
        return self.select(questions)

    def _ask(self, asked: Sequence[tuple[Question, Prompt]]) -> list[OptionLogprobs]:
        requests = [OptionRequest(one.id, prompt, tuple(map(one_line, one.options))) for one, prompt in asked]
        return self.backend.option_logprobs(requests) if requests else []
