"""Letters: the probability of each option's letter, averaged over orders so that no place has an advantage.

References:
    Zheng et al., Large Language Models Are Not Robust Multiple Choice Selectors, 2024, arXiv:2309.03882.
"""

import math
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal

from ._asked import best, choice_prompt
from ._backend import Backend, OptionLogprobs, OptionRequest
from ._question import Question, Scored
from ._templates import Templates


class LetterScorer:
    """Score options by the probability that the model begins its answer with their letter.

    log p(option) = mean over the cyclic orders of log softmax(log p(letter of the option) over the letters), and the
    options' p are scaled to sum to 1

    In the n cyclic orders of n options every option stands once at every place, so a preference for a letter or a
    place, which adds to the log-probability, cancels out exactly. No text is parsed.

    Args:
        backend: The model.
        permutations: ``"cyclic"`` asks n times, ``"none"`` once in the given order.
        templates: The wording; None takes the built-in one.

    Raises:
        ValueError: ``permutations`` has no such value.

    Example:
        >>> from clot import EchoBackend, Prompt
        >>> always_a = EchoBackend(logprob=lambda prompt, option: 0.0 if option == "A" else -9.0)
        >>> asked = [Question("q", Prompt("Why?"), ("Yes.", "No."), "en")]
        >>> [round(p, 3) for p in LetterScorer(always_a).select(asked)[0].scores]
        [0.5, 0.5]
        >>> [round(p, 3) for p in LetterScorer(always_a, permutations="none").select(asked)[0].scores]
        [1.0, 0.0]
    """

    def __init__(
        self,
        backend: Backend,
        *,
        permutations: Literal["cyclic", "none"] = "cyclic",
        templates: Templates | None = None,
    ) -> None:
        if permutations not in ("cyclic", "none"):
            raise ValueError(f"permutations is {permutations!r}; expected 'cyclic' or 'none'")
        self.backend = backend
        self.permutations = permutations
        self.templates = templates or Templates()

    def select(self, questions: Sequence[Question]) -> list[Scored]:
        """Choose the ``n_right`` most probable options of each question."""
        scored = []
        for question, tables in zip(questions, self.by_place(questions), strict=True):
            count = len(question.options)
            means = [
                math.fsum(logs[(at - shift) % count] for shift, (logs, _) in enumerate(tables)) / len(tables)
                for at in range(count)
            ]
            scores = tuple(math.exp(one) for one in _log_softmax(means))
            missing = sum(lost for _, lost in tables)
            scored.append(Scored(question.id, scores, best(scores, question.n_right), missing=missing))
        return scored

    def rank(self, questions: Sequence[Question]) -> list[Scored]:
        """Order the options of each question by their probability of being chosen as the one."""
        return self.select(questions)

    def by_place(self, questions: Sequence[Question]) -> list[list[tuple[list[float], int]]]:
        """Give what stands behind the averages, to see the preference for places.

        Args:
            questions: Questions.

        Returns:
            For each question, for each order, the log-probabilities of the letters A, B, ... among themselves, and the
            number of letters that the server gave none for. In order number s, option ``(place + s) mod n`` stands at
            a place.
        """
        requests = []
        for question in questions:
            count = len(question.options)
            letters = tuple(ascii_uppercase[:count])
            for shift in range(count if self.permutations == "cyclic" else 1):
                shown = question.options[shift:] + question.options[:shift]
                prompt = choice_prompt(self.templates, question, shown)
                requests.append(OptionRequest(f"{question.id}#{shift}", prompt, letters))
        given = iter(self.backend.option_logprobs(requests) if requests else ())
        return [
            [_logs(next(given)) for _ in range(len(question.options) if self.permutations == "cyclic" else 1)]
            for question in questions
        ]


def _logs(given: OptionLogprobs) -> tuple[list[float], int]:
    if any(math.isnan(one) for one in given.logprobs):
        raise ValueError(f"request {given.id}: a log-probability is nan")
    return _log_softmax(given.logprobs), sum(tokens == 0 for tokens in given.tokens)


def _log_softmax(values: Sequence[float]) -> list[float]:
    highest = max(values)
    total = highest + math.log(math.fsum(math.exp(one - highest) for one in values))
    return [one - total for one in values]
