"""The log-probability of given continuations, in three ways that agree.

log p(option | prompt) = sum over t of log p(token t | prompt, tokens before t)

``naive`` reads prompt and option anew for every option, n (P + T) tokens. ``batched`` reads them side by side, the same
tokens in one call. ``shared`` reads the prompt once and the options after it, P + n (T - 1) tokens; where all options
are single tokens, such as letters, nothing is read after the prompt.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from ._encode import Encoded
from ._prefill import Prefill
from ._reader import Reader
from ._state import Side, gather

Method = Literal["shared", "batched", "naive"]
Check = Callable[[Tensor, Sequence[str]], None]
Job = tuple[Encoded, Sequence[tuple[int, ...]]]


def separate(reader: Reader, jobs: Sequence[Job], *, side: Side, rows: int, check: Check) -> list[list[float]]:
    """Read every prompt with every option from the beginning, at most ``rows`` at a time.

    Args:
        reader: The model.
        jobs: Prompts with the tokens of their options.
        side: Where shorter rows are padded.
        rows: Rows in one call; 1 is the naive loop.
        check: Called with logits and the identifiers of their rows.

    Returns:
        The sums, for each prompt and option.
    """
    places = [(prompt, option) for prompt, options in jobs for option in options]
    sums: list[float] = []
    for start in range(0, len(places), rows):
        prompts, tails = zip(*places[start : start + rows], strict=True)
        logits = reader.whole(prompts, tails, side=side)
        check(logits, [one.id for one in prompts])
        sums += _sums(logits, tails)
    left = iter(sums)
    return [[next(left) for _ in options] for _, options in jobs]


def shared(prefill: Prefill, jobs: Sequence[Job], *, rows: int, check: Check) -> list[list[float]]:
    """Read every prompt once, then its options, at most ``rows`` of them at a time.

    Args:
        prefill: Reads the prompts.
        jobs: Prompts with the tokens of their options.
        rows: Rows in one call.
        check: Called with logits and the identifiers of their rows.

    Returns:
        The sums, for each prompt and option.
    """
    read = prefill([prompt for prompt, _ in jobs])
    sums: list[list[float]] = []
    longer: list[tuple[int, int]] = []  # job and option whose further tokens must be read
    for job, ((prompt, options), (state, row)) in enumerate(zip(jobs, read, strict=True)):
        first = state.logits[row]
        check(first[None], [prompt.id])
        index = torch.tensor([option[0] for option in options], device=first.device)
        sums.append(first.log_softmax(-1)[index].double().tolist())
        longer += [(job, at) for at, option in enumerate(options) if len(option) > 1]
    longer.sort(key=lambda place: (len(jobs[place[0]][1][place[1]]), place))
    for start in range(0, len(longer), rows):
        places = longer[start : start + rows]
        tails = [jobs[job][1][at] for job, at in places]
        state = gather([read[job] for job, _ in places], side=prefill.side)
        logits = prefill.reader.more(state, [tail[:-1] for tail in tails], side="right")
        check(logits, [jobs[job][0].id for job, _ in places])
        for (job, at), rest in zip(places, _sums(logits, [tail[1:] for tail in tails]), strict=True):
            sums[job][at] += rest
        del state, logits  # otherwise they stand beside those of the next part
    return sums


def _sums(logits: Tensor, tails: Sequence[Sequence[int]]) -> list[float]:
    """Sum the log-probabilities of each row's tokens, whose logits begin at the row's first place."""
    tokens = torch.zeros(logits.shape[:2], dtype=torch.long)
    real = torch.zeros(logits.shape[:2], dtype=torch.float64)
    for row, tail in enumerate(tails):
        tokens[row, : len(tail)] = torch.tensor(tail)
        real[row, : len(tail)] = 1
    chosen = logits.gather(2, tokens.to(logits.device)[..., None])[..., 0] - logits.logsumexp(-1)
    return (chosen.double().cpu() * real).sum(1).tolist()
