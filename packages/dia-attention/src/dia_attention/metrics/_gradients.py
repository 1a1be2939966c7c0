"""How large the gradient is at every depth."""

import torch
from torch import Tensor, nn


def gradient_norms(model: nn.Module, loss: Tensor) -> dict[str, float]:
    """Euclidean norm of the loss's gradient at every convolution weight, from the input to the output.

    Args:
        model: The network that made the loss; its `.grad` fields stay as they are.
        loss: A scalar; its graph is consumed.

    Returns:
        ``{parameter name: norm}`` in the order of the network; 0 for a weight the loss does not depend on.

    Example:
        >>> from dia_attention import cifar_resnet
        >>> net = cifar_resnet(11)
        >>> next(iter(gradient_norms(net, net(torch.zeros(2, 3, 8, 8)).sum())))
        'conv1.weight'
    """
    weights = {name: p for name, p in model.named_parameters() if p.ndim in (4, 5) and p.requires_grad}
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return {name: 0.0 if g is None else g.norm().item() for name, g in zip(weights, gradients, strict=True)}
