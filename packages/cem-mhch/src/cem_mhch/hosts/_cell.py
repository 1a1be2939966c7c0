"""One step of a GRU that was built for whole sequences."""

from typing import cast

import torch
from torch import Tensor, nn


def gru_step(gru: nn.GRU, x: Tensor, state: Tensor) -> Tensor:
    """The next state `(B, H)` after an input `(B, d)`, with the weights of a GRU of one layer."""
    return torch.gru_cell(
        x,
        state,
        cast(Tensor, gru.weight_ih_l0),
        cast(Tensor, gru.weight_hh_l0),
        cast(Tensor, gru.bias_ih_l0),
        cast(Tensor, gru.bias_hh_l0),
    )
