"""Pure tensor functions: the readable reference of every module in this package."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, relu

__all__ = ["asr_attention", "dia_cell", "lsas_gate", "ras_gate", "step_size"]


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


def ras_gate(p: Tensor, w: Tensor, b: Tensor, bn: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute the recursive gate of RAS.

    a = σ(w ⊙ bn(w ⊙ p + b) + b)

    Args:
        p: Pooled residual branch ``(B, C)``.
        w: ``(C,)``, the same in both steps.
        b: ``(C,)``, the same in both steps.
        bn: Batch normalisation of ``(B, C)``: a module, or a function.

    Returns:
        The gate ``(B, C)``, in (0, 1).

    Example:
        >>> import torch
        >>> ras_gate(torch.tensor([[2.0, 4.0]]), torch.tensor([0.5, 0.0]), torch.tensor([-1.0, -1.0]), lambda u: u + 2)
        tensor([[0.5000, 0.2689]])

    Reference:
        Zhong, Wen, Qin, Huang: Deepening Neural Networks Implicitly and Locally via Recurrent Attention Strategy.
        arXiv 2210.15676.
    """
    return torch.sigmoid(torch.addcmul(b, w, bn(torch.addcmul(b, w, p))))


def lsas_gate(logits: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Multiply the K + 1 sigmoids of the sub-attention chain of LSAS.

    u_0 = logits,   u_k = w_k ⊙ u_{k-1} + b_k,   a = σ(u_0) ⊙ σ(u_1) ⊙ ... ⊙ σ(u_K)

    Args:
        logits: u_0 ``(B, C)``, what the base attention applies its sigmoid to.
        weights: w_1 .. w_K, each ``(C,)``; none is order 0, the base attention.
        biases: b_1 .. b_K, each ``(C,)``.

    Returns:
        The gate ``(B, C)``, in (0, 1).

    Raises:
        ValueError: There are not as many biases as weights.

    Example:
        >>> import torch
        >>> lsas_gate(torch.zeros(1, 2), [torch.tensor([0.5, 0.5])], [torch.tensor([0.0, -0.5])])
        tensor([[0.2500, 0.1888]])

    Reference:
        Zhong, Wen, Qin, Chen, Huang: LSAS: Lightweight Sub-attention Strategy for Alleviating Attention Bias Problem.
        ICME 2023, arXiv 2305.05200.
    """
    if len(weights) != len(biases):
        raise ValueError(f"{len(weights)} weights and {len(biases)} biases; give one of each for every order")
    gate, u = torch.sigmoid(logits), logits
    for w, b in zip(weights, biases, strict=True):
        u = torch.addcmul(b, w, u)
        gate = gate * torch.sigmoid(u)
    return gate


def asr_attention(psi: Tensor, attention: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute the input-free attention of ASR.

    v = attention(ψ), and the norm's affine becomes γ ⊙ v and β ⊙ v

    Args:
        psi: The learned input ψ ``(C,)``, which stands in for the pooled features.
        attention: A channel gate from ``(1, C)`` to ``(1, C)``.

    Returns:
        v ``(C,)``.

    Example:
        >>> import torch
        >>> asr_attention(torch.zeros(3), torch.sigmoid)
        tensor([0.5000, 0.5000, 0.5000])

    Reference:
        Huang, Zhong, Wen, Qin, Lin: Stripe Observation Guided Inference Cost-free Attention Mechanism. ECCV 2024,
        arXiv 2304.06345.
    """
    return attention(psi.unsqueeze(0)).squeeze(0)


def step_size(
    q: Tensor,
    p: Tensor,
    q_before: Tensor,
    p_before: Tensor,
    begun: Tensor,
    *,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    inputs: Literal["p", "qp", "qpk"] = "qpk",
    eps: float = 1e-6,
) -> Tensor:
    """Compute the step size of one block from its local stiffness.

    ``κ = begun |p - p_before| / (|q - q_before| + ε)``
    ``h = σ(W_2 relu(W_1 z + b_1) + b_2)``, z the chosen parts of ``[n(q); n(p); log(1 + κ)]``

    n standardises every sample over its channels; κ is computed in float32 or better and passes no gradient.

    Args:
        q: Pooled skip ``(B, C)``.
        p: Pooled residual branch ``(B, C)``.
        q_before: Those of the previous block ``(B, C)``.
        p_before: Those of the previous block ``(B, C)``.
        begun: ``(B, 1)``, 0 in the first block of a stage and 1 after it.
        w1: ``(R, len(inputs) C)``, R the reduced width.
        b1: ``(R,)``.
        w2: ``(C, R)``.
        b2: ``(C,)``.
        inputs: Which of q, p and κ the step sees.
        eps: ε, in the unit of the features.

    Returns:
        The step ``(B, C)``, in (0, 1).

    Example:
        >>> import torch
        >>> q = p = torch.ones(1, 2)
        >>> step_size(q, p, q, p, torch.ones(1, 1), w1=torch.ones(1, 6), b1=torch.zeros(1), w2=torch.ones(2, 1),
        ...           b2=torch.zeros(2))
        tensor([[0.5000, 0.5000]])

    Reference:
        Our definition, after Huang, Liang, Qin, Zhong, Lin: Understanding Self-attention Mechanism via Dynamical System
        Perspective. ICCV 2023, arXiv 2308.09939.
    """
    width = q.shape[1:]
    parts = [layer_norm(p, width)]
    if "q" in inputs:
        parts.insert(0, layer_norm(q, width))
    if "k" in inputs:
        exact = torch.promote_types(p.dtype, torch.float32)
        dp, dq = (p - p_before).detach().to(exact).abs(), (q - q_before).detach().to(exact).abs()
        parts.append(torch.log1p(begun.to(exact) * dp / (dq + eps)).to(p.dtype))
    return torch.sigmoid(linear(relu(linear(torch.cat(parts, 1), w1, b1)), w2, b2))
