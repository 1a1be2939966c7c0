"""What the gates and the gradients of a network look like over its depth."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ._stage import Stage


@torch.no_grad()
def collect_gates(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The gates that every block of an attached network applies to the given images.

    The model is run in the mode it is in (call `eval()` first for running statistics); its hooks are put back.

    Args:
        model: A network that `attach` changed.
        batches: Inputs of the model, each with B samples.

    Returns:
        `{path of the block: gates (N, C) on the CPU}` in the order of the network, N the samples of all batches.

    Raises:
        ValueError: No attention is attached, or there are no batches.

    Example:
        >>> from dia_attention import cifar_resnet
        >>> gates = collect_gates(cifar_resnet(20, attention="dia").eval(), [torch.zeros(2, 3, 8, 8)])
        >>> {path: tuple(gate.shape) for path, gate in gates.items()}["layer3.1"]
        (2, 256)
    """
    stages = [module for module in model.modules() if isinstance(module, Stage)]
    if not stages:
        raise ValueError(f"no attention is attached to this {type(model).__name__}; call attach(model, ...) first")
    seen: list[list[Tensor]] = [[] for _ in stages]

    def keep(calls: list[Tensor]) -> Callable[[nn.Module, object, tuple[Tensor, ...]], None]:
        return lambda cell, inputs, output: calls.append(output[0].cpu())

    hooks = [stage.cell.register_forward_hook(keep(calls)) for stage, calls in zip(stages, seen, strict=True)]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen[0]:
        raise ValueError("no batches to collect gates from")
    return {
        f"{stage.path}.{name}": torch.cat(calls[index :: len(stage)])
        for stage, calls in zip(stages, seen, strict=True)
        for index, name in enumerate(stage.block_names)
    }


def layer_correlation(gates: Mapping[str, Tensor]) -> Tensor:
    r"""Mean Pearson correlation between the attention maps of every two blocks.

    For one image the attention map of a block is the vector of its C gates. For blocks k and l

    $$ R_{kl} = \frac1N \sum_n \mathrm{corr}_c\,(a^k_{nc}, a^l_{nc}), $$

    the correlation running over the channels of one image, the mean over the images. An image on which one of the two
    maps is constant has no correlation and is left out of the mean; with none left the entry is NaN.

    Args:
        gates: For each block, in the order of the network, its gates `(N, C)`; the same N and C for all (one stage).

    Returns:
        `(L, L)`, symmetric, in [-1, 1], float64.

    Raises:
        ValueError: No gates, or gates of different shapes.

    Example:
        >>> gate = torch.tensor([[0.1, 0.2, 0.4]])
        >>> layer_correlation({"0": gate, "1": 1 - gate}).round()
        tensor([[ 1., -1.],
                [-1.,  1.]], dtype=torch.float64)

    References:
        Z. Huang et al., A Generic Shared Attention Mechanism for Various Backbone Neural Networks, 2022,
        arXiv:2210.16101 (the claim; the estimator is written down here).
    """
    shapes = {path: tuple(gate.shape) for path, gate in gates.items()}
    if not shapes or len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 2:
        raise ValueError(f"expected gates (N, C) of one stage, all of one shape; got {shapes or 'none'}")
    stacked = torch.stack([gate.double() for gate in gates.values()], dim=1)  # (N, L, C)
    centred = stacked - stacked.mean(-1, keepdim=True)
    norm = centred.norm(dim=-1)
    constant = norm <= 1e-12 * stacked.norm(dim=-1)
    unit = centred / norm.masked_fill(constant, torch.nan).unsqueeze(-1)
    correlation: Tensor = (unit @ unit.mT).nanmean(0)
    return correlation.clamp(-1, 1)


def gradient_norms(model: nn.Module, loss: Tensor) -> dict[str, float]:
    """Euclidean norm of the loss's gradient at every convolution weight, from the input to the output.

    Args:
        model: The network that made the loss; its `.grad` fields stay as they are.
        loss: A scalar; its graph is consumed.

    Returns:
        `{parameter name: norm}` in the order of the network; 0 for a weight the loss does not depend on.
    """
    weights = {name: p for name, p in model.named_parameters() if p.ndim == 4 and p.requires_grad}
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return {name: 0.0 if g is None else g.norm().item() for name, g in zip(weights, gradients, strict=True)}
