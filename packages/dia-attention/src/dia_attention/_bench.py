"""A training step of a CIFAR ResNet with each attention, timed beside the plain net and the peers' SE."""

import copy
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sail_core.bench import append_rows, compare
from torch import Tensor, nn

from ._cifar import cifar_resnet

_LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


class Step:
    """Forward and backward of one network, as loss and first gradient over what they are in float64."""

    def __init__(self, net: nn.Module, layout: str, device: str, images: Tensor, labels: Tensor) -> None:
        self.exact = [value.item() for value in self._run(copy.deepcopy(net).double(), images.double(), labels)]
        self.net = net.to(device=device, memory_format=_LAYOUTS[layout])  # type: ignore[call-overload]

    def __call__(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """Give loss and gradient norm, 1 where they are right."""
        found = self._run(self.net, images, labels)
        return [value / exact for value, exact in zip(found, self.exact, strict=True)]

    @staticmethod
    def _run(net: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
        loss = nn.functional.cross_entropy(net(images), labels)
        first, *_ = torch.autograd.grad(loss, list(net.parameters()))
        return [loss.detach(), first.norm()]


def networks(depth: int, attentions: Sequence[str]) -> dict[str, nn.Module]:
    """The plain net, one with each attention, and those with the SE of the libraries that are installed.

    They have equal weights where they have the same layers. The peers' SE stands where ours does, behind the last norm
    of every block, with the same hidden width.

    Args:
        depth: Of the CIFAR ResNet.
        attentions: Names that `attach` knows.

    Returns:
        By name: the attentions' own, then `plain`, `torchvision_se`, `timm_se`.

    Raises:
        ValueError: A name or the depth is out of range.
    """

    def build(attention: str | None = None) -> nn.Module:
        torch.manual_seed(0)
        return cifar_resnet(depth, attention=attention)

    nets = {name: build(name) for name in attentions} | {"plain": build()}
    for peer, make in peers().items():
        net = build()
        for block in [module for module in net.modules() if hasattr(module, "bn3")]:
            norm: Any = block.bn3
            block.bn3 = nn.Sequential(norm, make(norm.num_features))
        nets[peer] = net
    return nets


def peers() -> dict[str, Callable[[int], nn.Module]]:
    """The SE modules of other libraries that are installed here, by name, for a width."""
    found: dict[str, Callable[[int], nn.Module]] = {}
    try:
        from torchvision.ops import SqueezeExcitation  # type: ignore[import-untyped]

        found["torchvision_se"] = lambda width: SqueezeExcitation(width, width // 16)
    except ModuleNotFoundError:
        pass
    try:
        from timm.layers import SqueezeExcite  # type: ignore[attr-defined]

        found["timm_se"] = lambda width: SqueezeExcite(width, rd_ratio=1 / 16, rd_divisor=1)
    except ModuleNotFoundError:
        pass
    return found


def compare_steps(
    attentions: Sequence[str],
    *,
    depth: int,
    batch: int,
    size: int,
    layout: str,
    device: str,
    seconds: float,
    out: Path | None,
) -> list[dict[str, Any]]:
    """Time the step of each network in turn, print a line for each, and append the rows to a file.

    A network is timed only if its loss and the gradient at its first convolution agree with its own in float64. The
    optimizer is not timed.

    Args:
        attentions: Names that `attach` knows.
        depth: Of the CIFAR ResNet.
        batch: Images a step.
        size: Side of the images.
        layout: `"nchw"` or `"nhwc"`, channels last.
        device: `"cpu"`, one thread and process time, or `"cuda"`.
        seconds: To spend on each network.
        out: A JSON-lines file, or None.

    Returns:
        A benchmark row for each network; ours are of the implementation `dia_attention` and have the attention in the
        operation, `resnet29+dia`.
    """

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(batch, 3, size, size, generator=generator).to(device)
        labels = torch.randint(10, (batch,), generator=generator).to(device)
        return [images.contiguous(memory_format=_LAYOUTS[layout]), labels]

    images, labels = (value.cpu() for value in inputs(0))
    nets = networks(depth, attentions)
    hosts = {"torchvision_se": "torchvision", "timm_se": "timm"}
    rows = compare(
        f"resnet{depth}",
        {name: Step(net, layout, device, images, labels) for name, net in nets.items()},
        inputs,
        reference=lambda *_: [torch.ones(()), torch.ones(())],
        tolerance=5e-2,  # float32 rounding alone moves the first gradient of 164 layers by 1 to 2 %
        mode="fwdbwd",
        shape=(batch, 3, size, size),
        dtype="float32",
        layout=layout,
        device=device,  # type: ignore[arg-type]
        versions={name: version(host) for name, host in hosts.items() if name in nets},
        seconds=seconds,
    )
    label(rows, attentions)
    if out is not None:
        append_rows(out, rows)
    for (name, net), row in zip(nets.items(), rows, strict=True):
        ratio = (row["peer_ratio"] or {}).get("plain")
        cost = f"wrong by {row['rel_err']}" if not row["correct"] else f"{row['median_us'] / 1e3:.0f} ms"
        cost += f", {100 * (1 / ratio - 1):+.1f} % over plain" if ratio else ""
        count = sum(p.numel() for p in net.parameters())
        print(f"resnet{depth} {layout} {name:14} {count:9,} parameters, {cost}{', noisy' * bool(row['noisy'])}")
    return rows


def label(rows: list[dict[str, Any]], attentions: Sequence[str]) -> None:
    """Turn the rows of our networks, in place, into rows of one implementation with an operation for each attention."""
    for row in rows:
        row["peer_ratio"] = {
            peer: ratio for peer, ratio in (row["peer_ratio"] or {}).items() if peer not in attentions
        } or None
        if row["impl"] in attentions:
            row["op"], row["impl"] = f"{row['op']}+{row['impl']}", "dia_attention"
