"""What a model has read so far, as data: keys and values, mask, next position and the logits of the next token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

Side = Literal["left", "right"]


@dataclass(slots=True)
class State:
    """Rows that a model has read, L tokens each.

    Attributes:
        cache: A ``DynamicCache``; keys and values (rows, heads, L, width) for each layer.
        mask: (rows, L), 1 where a token is real.
        position: (rows,), the rotary position of the next token.
        logits: (rows, vocabulary), of the next token, in float32.
    """

    cache: Any
    mask: Tensor
    position: Tensor
    logits: Tensor


def gather(picks: Sequence[tuple[State, int]], *, side: Side) -> State:
    """Copy rows of several states into one, shorter ones padded on one side.

    Args:
        picks: State and row, any number of times.
        side: Where the padding goes.

    Returns:
        A state of its own: reading more changes none of the others.
    """
    from transformers import DynamicCache

    runs: list[tuple[State, list[int]]] = []
    for state, row in picks:
        if runs and runs[-1][0] is state:
            runs[-1][1].append(row)
        else:
            runs.append((state, [row]))
    length = max(state.mask.shape[1] for state, _ in runs)
    indices = [torch.tensor(rows, device=state.mask.device) for state, rows in runs]

    def joined(part: Any, *, dim: int) -> Tensor:
        found = []
        for (state, _), index in zip(runs, indices, strict=True):
            value = part(state).index_select(0, index)
            gap = length - state.mask.shape[1]
            ends = (gap, 0) if side == "left" else (0, gap)
            found.append(pad(value, [0, 0] * dim + [*ends]) if gap else value)
        return torch.cat(found) if len(found) > 1 else found[0]

    cache = DynamicCache()
    for layer in range(len(runs[0][0].cache.layers)):
        keys = joined(lambda state, layer=layer: state.cache.layers[layer].keys, dim=1)
        values = joined(lambda state, layer=layer: state.cache.layers[layer].values, dim=1)
        cache.update(keys, values, layer)
    return State(
        cache,
        joined(lambda state: state.mask, dim=0),
        torch.cat([state.position[index] for (state, _), index in zip(runs, indices, strict=True)]),
        torch.cat([state.logits[index] for (state, _), index in zip(runs, indices, strict=True)]),
    )


def padded(rows: Sequence[Sequence[int]], *, side: Side, device: Any) -> tuple[Tensor, Tensor]:
    """Lay token rows out as ids and mask, both (rows, longest); padding is 0 and masked."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        span = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[at, span] = torch.tensor(row, dtype=torch.long)
        mask[at, span] = 1
    return ids.to(device), mask.to(device)
