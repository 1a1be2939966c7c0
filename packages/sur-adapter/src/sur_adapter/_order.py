"""The order of training rows, a pure function of seed and step: a resumed run needs no other memory of it."""

import torch
from torch import Tensor


def rows_of_step(count: int, batch_size: int, step: int, *, seed: int) -> Tensor:
    """Return the rows of one step; each epoch is a new permutation, and a batch may reach into the next.

    Args:
        count: Rows there are, >= 1.
        batch_size: Rows to give.
        step: Counts from 0.
        seed: Of the run.

    Returns:
        ``(batch_size,)`` int64.

    Example:
        >>> sorted(torch.cat([rows_of_step(6, 4, step, seed=0) for step in range(3)]).tolist())
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    """
    places = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = places // count
    rows = torch.empty_like(places)
    for epoch in sorted(set(epochs.tolist())):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        inside = epochs == epoch
        rows[inside] = order[places[inside] % count]
    return rows
