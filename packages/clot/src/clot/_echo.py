"""A backend without a model: answers by a rule, for tests, dry runs and the floor of an evaluation."""

import math
from collections.abc import Callable, Sequence

from ._backend import Generation, OptionLogprobs, OptionRequest, Prompt, Request
from ._draw import Draws


class EchoBackend:
    r"""Answer with the last line of the prompt, and hold every option for a random draw as probable as its hash says.

    Args:
        answer: Gives the text of the i-th answer to a request instead: ``answer(request, i)``.
        logprob: Gives the log-probability of a continuation instead: ``logprob(prompt, option)``.
        digest: The name of this rule in ledgers.

    Example:
        >>> EchoBackend().generate([Request("r1", Prompt("Say it again:\nWhy not?"), n=2)])[0].texts
        ('Why not?', 'Why not?')
        >>> sure = EchoBackend(logprob=lambda prompt, option: 0.0 if option == "B" else -5.0)
        >>> sure.option_logprobs([OptionRequest("r2", Prompt("A or B?"), ("A", "B"))])[0].logprobs
        (-5.0, 0.0)
    """

    def __init__(
        self,
        *,
        answer: Callable[[Request, int], str] | None = None,
        logprob: Callable[[Prompt, str], float] | None = None,
        digest: str = "echo",
    ) -> None:
        self._answer = answer or _last_line
        self._logprob = logprob or _hashed
        self.digest = digest

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """Answer each request by the rule."""
        return [Generation(one.id, tuple(self._answer(one, at) for at in range(one.n))) for one in requests]

    def option_logprobs(self, requests: Sequence[OptionRequest]) -> list[OptionLogprobs]:
        """Give each option's log-probability by the rule; its words count as tokens."""
        return [
            OptionLogprobs(
                one.id,
                tuple(self._logprob(one.prompt, option) for option in one.options),
                tuple(max(1, len(option.split())) for option in one.options),
            )
            for one in requests
        ]


def _last_line(request: Request, at: int) -> str:
    return request.prompt.text.rstrip().rpartition("\n")[2]


def _hashed(prompt: Prompt, option: str) -> float:
    return math.log(Draws(0, prompt.text, option).uniform() + 1e-9)
