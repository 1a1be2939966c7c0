"""Drawing answers token by token, every candidate with random numbers of its own."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clot._backend import Request

from ._reader import Reader
from ._state import Side, State, gather


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer to be drawn.

    Attributes:
        request: What it answers.
        index: Which of the request's n answers it is. Request seed and index alone decide its random numbers.
    """

    request: Request
    index: int

    def uniforms(self) -> list[float]:
        """One number in [0, 1) for each token."""
        rng = random.Random(f"{self.request.seed} {self.index}")
        return [rng.random() for _ in range(self.request.max_new_tokens)]


def decode(
    reader: Reader,
    state: State,
    candidates: Sequence[Candidate],
    *,
    stop: Collection[int],
    side: Side,
    check: Callable[[Tensor, Sequence[str]], None],
) -> list[list[int]]:
    """Draw an answer for each row of a state, which is used up.

    Args:
        reader: The model.
        state: A row for each candidate.
        candidates: What to draw.
        stop: Tokens that end an answer.
        side: Where shorter rows are padded.
        check: Called with logits and the identifiers of their rows.

    Returns:
        The tokens of each answer, without the one that ended it.
    """
    answers: list[list[int]] = [[] for _ in candidates]
    device = state.logits.device
    uniforms = [one.uniforms() for one in candidates]
    rows = list(range(len(candidates)))  # the candidate of each row of the state
    going = set(rows)
    while going:
        check(state.logits, [candidates[at].request.id for at in rows])
        columns = [
            [candidates[at].request.temperature for at in rows],
            [candidates[at].request.top_p for at in rows],
            [uniforms[at][len(answers[at])] if at in going else 0.0 for at in rows],
        ]
        tokens = choose(state.logits, *torch.tensor(columns, dtype=torch.float64, device=device))
        for at, token in zip(rows, tokens.tolist(), strict=True):
            if at not in going:
                continue
            if token in stop:
                going.discard(at)
                continue
            answers[at].append(token)
            if len(answers[at]) == candidates[at].request.max_new_tokens:
                going.discard(at)
        if not going:
            break
        if 2 * len(going) <= len(rows):  # half of the rows have ended: go on without them
            kept = [row for row, at in enumerate(rows) if at in going]
            rows = [rows[row] for row in kept]
            state = gather([(state, row) for row in kept], side=side)
            tokens = tokens[torch.tensor(kept, device=device)]
        reader.step(state, tokens)
    return answers


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token a row by inverting the distribution function at a given number.

    token = min {v : F(v) > u F(V)}, F the running sum of softmax(logits / temperature) over the tokens that are kept

    Args:
        logits: (rows, V).
        temperature: (rows,), 0 for the most probable token.
        top_p: (rows,), in (0, 1]: tokens are kept from the most probable on until their mass reaches it.
        uniform: (rows,), in [0, 1).

    Returns:
        (rows,) token ids.
    """
    best = logits.argmax(-1)
    if not bool((temperature > 0).any()):
        return best
    heat = torch.where(temperature > 0, temperature, 1.0)[:, None]
    mass = (logits.double() / heat).softmax(-1)
    order: Tensor | None = None
    if bool((top_p < 1).any()):
        mass, order = mass.sort(stable=True, dim=-1, descending=True)
        mass = torch.where(mass.cumsum(-1) - mass < top_p[:, None], mass, 0.0)
    total = mass.cumsum(-1)
    drawn = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True).clamp(max=logits.shape[-1] - 1)
    if order is not None:
        drawn = order.gather(1, drawn)
    return torch.where(temperature > 0, drawn[:, 0], best)
