"""The loss of a batch, over its tokens or over its instructions, and its parts by kind."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def token_losses(model: Any, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Give the loss of every token that is to be learnt, 0 elsewhere.

    -log p(labels[t] | what precedes t)

    Args:
        model: The model, wrapped or not.
        inputs: Its keyword arguments, padded right.
        labels: (rows, L), -100 where nothing is learnt.

    Returns:
        (rows, places) in float32, with a place for every position that any row learns.
    """
    at = (labels != -100).any(0).nonzero()[:, 0]
    if not len(at):
        at = torch.tensor([1])
    keep = (at - 1).to(inputs["input_ids"].device)  # a token is predicted by the place before it
    logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits.float()
    targets = labels[:, at].to(logits.device)
    return cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")


def row_weights(
    counts: Sequence[int], *, weighting: Literal["token", "example"], tokens: float, examples: float
) -> list[float]:
    """Give the factor of each row's sum of token losses in the loss of the whole batch.

    Args:
        counts: Tokens to learn of each row.
        weighting: ``"token"``: 1 / tokens. ``"example"``: 1 / (examples * the row's tokens).
        tokens: Tokens to learn in the batch, over all processes.
        examples: Rows of the batch with any.

    Returns:
        Factors, 0 for a row without tokens to learn.
    """
    if weighting == "token":
        return [1 / tokens if count else 0.0 for count in counts]
    return [1 / (examples * count) if count else 0.0 for count in counts]
