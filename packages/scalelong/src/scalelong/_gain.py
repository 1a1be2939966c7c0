"""The largest singular value of a Jacobian, by power iteration."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def largest_gain(function: Callable[[Tensor], Tensor], x: Tensor, *, iterations: int = 20, seed: int = 0) -> float:
    """Estimate ``max_v |J v| / |v|`` of ``J = d function / d x``, from below.

    Power iteration on JᵀJ; J v is the gradient of the linear map u -> Jᵀu, so one forward pass serves all iterations.

    Args:
        function: Differentiable twice; one tensor to one tensor.
        x: Where.
        iterations: Products with JᵀJ, at least 1.
        seed: Draws the first v.

    Returns:
        The gain; for a batch of independent samples the largest of them.

    Example:
        >>> round(largest_gain(lambda x: x * torch.tensor([1.0, -3.0]), torch.zeros(2)), 4)
        3.0
    """
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; it must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    x = x.detach().requires_grad_()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        y = function(x)
        u = torch.zeros_like(y, requires_grad=True)
        (pulled,) = torch.autograd.grad(y, x, u, create_graph=True)
        v = torch.randn(x.shape, generator=generator).to(x)
        gain = 0.0
        for _ in range(iterations):
            v = v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)
            (pushed,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
            gain = pushed.norm().item()
            (v,) = torch.autograd.grad(y, x, pushed, retain_graph=True)
    return gain
