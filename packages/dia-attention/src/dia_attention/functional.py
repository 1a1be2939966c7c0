"""Pure tensor functions: the readable reference of every module in this package."""

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

__all__ = ["dia_cell"]


def dia_cell(
    p: Tensor,
    h: Tensor,
    c: Tensor,
    *,
    w_ih1: Tensor,
    b_ih1: Tensor,
    w_ih2: Tensor,
    b_ih2: Tensor,
    w_hh1: Tensor,
    b_hh1: Tensor,
    w_hh2: Tensor,
    b_hh2: Tensor,
) -> tuple[Tensor, Tensor]:
    """Advance the DIA cell by one block; the new ``h`` is that block's channel attention.

    G  = W_ih2 relu(W_ih1 p + b_ih1) + b_ih2 + W_hh2 relu(W_hh1 h + b_hh1) + b_hh2
    i, f, g, o = the four equal parts of G, in this order
    c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)
    h' = σ(o) ⊙ σ(c')

    The last line has a sigmoid where an LSTM has a tanh, which keeps every h' in (0, 1).

    Args:
        p: Pooled residual branch ``(B, C)``.
        h: Attention of the previous block ``(B, C)``, zero before the first block of a stage.
        c: Cell state of the previous block ``(B, C)``, zero before the first block of a stage.
        w_ih1: ``(R, C)``, R the reduced width.
        b_ih1: ``(R,)``.
        w_ih2: ``(4C, R)``.
        b_ih2: ``(4C,)``.
        w_hh1: ``(R, C)``.
        b_hh1: ``(R,)``.
        w_hh2: ``(4C, R)``.
        b_hh2: ``(4C,)``.

    Returns:
        ``(h', c')``, both ``(B, C)``; h' in (0, 1).

    Example:
        >>> import torch
        >>> C, R = 4, 2
        >>> zeros = dict(w_ih1=torch.zeros(R, C), b_ih1=torch.zeros(R), w_ih2=torch.zeros(4 * C, R),
        ...              b_ih2=torch.zeros(4 * C), w_hh1=torch.zeros(R, C), b_hh1=torch.zeros(R),
        ...              w_hh2=torch.zeros(4 * C, R), b_hh2=torch.zeros(4 * C))
        >>> dia_cell(torch.ones(1, C), torch.zeros(1, C), torch.zeros(1, C), **zeros)[0]
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])

    Reference:
        Huang, Liang, Liang, Yang: DIANet: Dense-and-Implicit Attention Network. AAAI 2020, arXiv 1905.10671.
    """
    gates = linear(relu(linear(p, w_ih1, b_ih1)), w_ih2, b_ih2) + linear(relu(linear(h, w_hh1, b_hh1)), w_hh2, b_hh2)
    i, f, g, o = gates.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.sigmoid(c), c
