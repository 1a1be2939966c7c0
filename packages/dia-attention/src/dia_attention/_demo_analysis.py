"""What the demo looks at inside its trained networks."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._protocol import Job, Places, Protocol
from ._splits import batches, to_float
from ._train import build
from .metrics import (
    Bias,
    StiffnessCurve,
    attention_bias,
    collect_gates,
    grad_cam,
    gradient_norms,
    stiffness_curve,
)

_IMAGES, _SPECTRAL_IMAGES = 100, 8
_SHOWN = 9


@dataclass(frozen=True)
class BiasTable:
    """Where the networks of a condition look on the test composites.

    Attributes:
        rates: For each network its biases, seed by seed.
        images: Some images `(N, 3, H, W)`.
        masks: Their evidence `(N, H, W)`.
        maps: For each network the maps of its first seed on them.
    """

    rates: dict[str, list[Bias]]
    images: Tensor
    masks: Tensor
    maps: dict[str, Tensor]


def gates_of(job: Job, model: nn.Module, places: Places, device: torch.device) -> dict[str, Tensor]:
    """The gates of a trained network on its validation images."""
    return collect_gates(model, [_validation(job, places, _IMAGES).to(device)])


def stiffness(job: Job, model: nn.Module, places: Places, device: torch.device) -> list[StiffnessCurve]:
    """The three curves of a trained network on validation images; the third, which takes derivatives, on few."""
    images = _validation(job, places, _IMAGES).to(device)
    curves = [stiffness_curve(model, [images], measure=measure) for measure in ("secant", "step")]
    return [*curves, stiffness_curve(model, [images[:_SPECTRAL_IMAGES]], measure="spectral", iterations=6)]


def gradients(protocol: Protocol, places: Places) -> dict[str, dict[str, dict[str, float]]]:
    """Gradient norm at every convolution before training, on the first batch, once for each kind of backbone."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    seen = set()
    for name, condition in protocol.conditions.items():
        networks = {}
        for network, rates in condition.learning_rates.items():
            config = protocol.config(name, network, min(rates), seed=0)
            data = places.load(config)
            images, labels = next(batches(data.train, config.batch_size, seed=0, epoch=0, augment=config.augment))
            model = build(config, data)
            networks[network] = gradient_norms(model, F.cross_entropy(model(images), labels))
        kind = (config.data, config.depth, config.batch_norm, config.skip)
        if kind not in seen:
            found[name] = networks
        seen.add(kind)
    return found


def biases(trained: list[tuple[Job, nn.Module]], places: Places, device: torch.device) -> BiasTable:
    """Grad-CAM for the true class on the test composites, against the exact masks."""
    images, masks = places.source(trained[0][0].config).load_masks()
    rates: dict[str, list[Bias]] = {}
    maps: dict[str, Tensor] = {}
    for job, model in trained:
        parts = [
            grad_cam(model, to_float(part).to(device), labels.to(device)).cpu()
            for part, labels in zip(torch.split(images.images, 100), torch.split(images.labels, 100), strict=True)
        ]
        found = torch.cat(parts)
        rates.setdefault(job.network, []).append(attention_bias(found, masks))
        maps.setdefault(job.network, found[:: len(found) // _SHOWN][:_SHOWN])
    shown = slice(None, None, len(masks) // _SHOWN)
    return BiasTable(rates, to_float(images.images)[shown][:_SHOWN], masks[shown][:_SHOWN], maps)


def off_diagonal(matrix: Tensor) -> float:
    """Mean over the pairs of different blocks; NaN for a stage with one."""
    return float(matrix[~torch.eye(len(matrix), dtype=torch.bool)].nanmean())


def _validation(job: Job, places: Places, count: int) -> Tensor:
    images = places.load(job.config).validation.images
    return to_float(images[:: max(1, len(images) // count)][:count])
