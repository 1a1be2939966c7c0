"""The gates of a network: collected, and how much they depend on the image and on the layer."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from dia_attention._watch import watch_gates


@torch.no_grad()
def collect_gates(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The channel gates that an attached network applies to the given images.

    The model is run in the mode it is in (call `eval()` first for running statistics).

    Args:
        model: A network that `attach` or `share` changed.
        batches: Inputs of the model, each with B samples.

    Returns:
        ``{path: gates (N, C) on the CPU}`` in the order of the network, N the samples of all batches; the paths are
        those of `watch_gates`. A gate of ASR is the same for all samples.

    Raises:
        ValueError: No attention is attached, its gates are not known, or there are no batches.

    Example:
        >>> from dia_attention import cifar_resnet
        >>> gates = collect_gates(cifar_resnet(20, attention="dia").eval(), [torch.zeros(2, 3, 8, 8)])
        >>> {path: tuple(gate.shape) for path, gate in gates.items()}["layer3.1"]
        (2, 256)
    """
    seen: dict[str, list[Tensor]] = {}
    with watch_gates(model, lambda path, gate: seen.setdefault(path, []).append(gate.cpu())) as paths:
        for batch in batches:
            model(batch)
    if not seen:
        raise ValueError("no batches to collect gates from")
    return {path: torch.cat(seen[path]) for path in paths}


def stripe_score(gates: Tensor) -> float:
    r"""How much of the variation of the gates of one block lies between channels and not between images.

    $$ \eta^2 = \frac{\mathrm{Var}_c(\frac1N \sum_n v_{nc})}{\mathrm{Var}_{nc}(v_{nc})} $$

    One means that every image gets the same gates: drawn with a row for each image, `v` shows perfect stripes.

    Args:
        gates: `(N, C)`, the gates of one block on N images.

    Returns:
        The share in [0, 1]; NaN where all gates are equal, for then there is no variation to divide.

    Raises:
        ValueError: `gates` is not `(N, C)` with N, C >= 1.

    Example:
        >>> stripe_score(torch.tensor([[0.1, 0.9], [0.1, 0.9]]))
        1.0

    References:
        Z. Huang et al., Stripe Observation Guided Inference Cost-free Attention Mechanism, ECCV 2024, arXiv:2304.06345
        (the observation; the score is written down here).
    """
    if gates.ndim != 2 or not gates.numel():
        raise ValueError(f"expected the gates (N, C) of one block, got {tuple(gates.shape)}")
    values = gates.double()
    total = values.var(correction=0)
    if total <= 1e-24 * values.square().mean():
        return float("nan")
    return float((values.mean(0).var(correction=0) / total).clamp(0, 1))


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


def by_stage(gates: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The gates of a network stage by stage: the stage of `layer1.0` and of `layer1.0.bn3` is `layer1`.

    Args:
        gates: What `collect_gates` returned.

    Returns:
        For each stage what `layer_correlation` takes.

    Example:
        >>> {stage: list(gates) for stage, gates in by_stage({"layer1.0": torch.ones(1, 2)}).items()}
        {'layer1': ['layer1.0']}
    """
    stages: dict[str, dict[str, Tensor]] = {}
    for path, gate in gates.items():
        parts = path.split(".")
        last = max((index for index, part in enumerate(parts) if part.isdigit()), default=len(parts) - 1)
        stages.setdefault(".".join(parts[:last]), {})[path] = gate
    return stages
