"""The DIA cell alone, against its merged form and torch.compile: bench_cell.py --out FILE [--device cpu] [--quick].

Operation ``dia_cell`` is one advance of the cell, reduction 4, of shape (images, channels). `merged` is the same in two
products instead of four: both first layers as one batched product, both second layers as one product with concatenated
inputs and weights, the weights stored that way, and a pointwise end with one sigmoid for i and f.
`compiled`, at one batch size, is ours under torch.compile, its `first_us` includes the compilation. Everything, with
the gradients of inputs and weights, is held against `functional.dia_cell` in float64. Operation ``cell_share`` is a
training step of ResNet-164 with DIA, and its ``cells`` the 54 advances of the three cells in it, forward and backward:
the ratio of the medians is their share. On a CPU the merged form takes 0.99 of the time forward and 1.11 with backward
(geometric means of 16 shapes), compiled 0.97 and 1.01, and all cells 2.1 % of a step: the package keeps its own form.
"""

import argparse
import copy
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # else a second run finds the first one's code

import torch
from dia_attention import DIA, __version__, cifar_resnet
from dia_attention._bench import Step
from dia_attention._gate import ChannelGate
from dia_attention.functional import dia_cell
from sail_core.bench import append_rows, compare
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 1024, 2048)
BATCHES = (1, 32, 256)
COMPILED_BATCH = 32  # a compilation takes seconds
WEIGHTS = ("w_ih1", "b_ih1", "w_ih2", "b_ih2", "w_hh1", "b_hh1", "w_hh2", "b_hh2")


class Merged(ChannelGate):
    """The cell of ``DIA`` in two products."""

    stateful = True

    def __init__(self, cell: DIA) -> None:
        super().__init__(cell.channels, init="paper", device=None, dtype=None)
        get = {name: getattr(cell, name).detach() for name in WEIGHTS}
        self.reduced = len(get["b_ih1"])
        self.w1 = nn.Parameter(torch.stack([get["w_ih1"].t(), get["w_hh1"].t()]))  # (2, C, R)
        self.b1 = nn.Parameter(torch.stack([get["b_ih1"], get["b_hh1"]])[:, None])  # (2, 1, R)
        self.w2 = nn.Parameter(torch.cat([get["w_ih2"], get["w_hh2"]], dim=1))  # (4C, 2R)
        self.b2 = nn.Parameter(get["b_ih2"] + get["b_hh2"])

    def _gate(self, p: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        h, c = state
        hidden = torch.relu(torch.baddbmm(self.b1, torch.stack([p, h]), self.w1))
        gates = nn.functional.linear(hidden.transpose(0, 1).flatten(1), self.w2, self.b2)
        i_f, g, o = gates.split([2 * self.channels, self.channels, self.channels], dim=1)
        i, f = torch.sigmoid(i_f).chunk(2, dim=1)
        c = torch.addcmul(f * c, i, torch.tanh(g))
        h = torch.sigmoid(o) * torch.sigmoid(c)
        return h, h, c

    def unmerge(self, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> list[Tensor]:
        """Split gradients of the merged weights into views in the order of ``WEIGHTS``."""
        (w_i, w_h), (b_i, b_h), r = w1.transpose(1, 2), b1[:, 0], self.reduced
        return [w_i, b_i, w2[:, :r], b2, w_h, b_h, w2[:, r:], b2]


def run(cell: DIA | Merged, call: Callable[..., tuple[Tensor, ...]], mode: str, *inputs: Tensor) -> list[Tensor]:
    """Give h' and c', and for fwdbwd the gradients of p, h, c and of each weight."""
    *state, to_h, to_c = inputs
    if mode == "fwd":
        with torch.no_grad():
            return list(call(*state)[1:])
    _, *out = call(*state)
    found = torch.autograd.grad(out, [*state, *cell.parameters()], [to_h, to_c])
    of_weights = cell.unmerge(*found[3:]) if isinstance(cell, Merged) else found[3:]
    return [*(one.detach() for one in out), *found[:3], *of_weights]


def exact(cell: DIA, mode: str, *inputs: Tensor) -> list[Tensor]:
    """The same from ``functional.dia_cell`` in float64."""
    p, h, c, to_h, to_c = (value.detach().double() for value in inputs)
    wide = [value.requires_grad_() for value in (p, h, c)]
    weights = {name: getattr(cell, name).detach().double().requires_grad_() for name in WEIGHTS}
    out = dia_cell(*wide, **weights)
    gradients = torch.autograd.grad(out, [*wide, *weights.values()], [to_h, to_c]) if mode == "fwdbwd" else ()
    return [*(one.detach() for one in out), *gradients]


def cell_rows(channels: int, batch: int, mode: str, device: Any, seconds: float) -> list[dict[str, Any]]:
    """The rows of one width, batch and mode."""
    torch.manual_seed(0)
    cell = DIA(channels, device=device)

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        p, c, to_h, to_c = (torch.randn(batch, channels, generator=generator) for _ in range(4))
        given = [p, torch.sigmoid(p.flip(0, 1)), torch.sigmoid(c)]
        return [*(one.to(device).requires_grad_(mode == "fwdbwd") for one in given), to_h.to(device), to_c.to(device)]

    merged = Merged(cell)
    runs = {"dia_attention": partial(run, cell, cell, mode), "merged": partial(run, merged, merged, mode)}
    if batch == COMPILED_BATCH:
        torch._dynamo.reset()
        runs["compiled"] = partial(run, cell, torch.compile(cell, fullgraph=True, dynamic=False), mode)
    return compare(
        "dia_cell",
        runs,
        inputs,
        reference=partial(exact, cell, mode),
        tolerance=1e-5,
        mode=mode,
        shape=(batch, channels),
        dtype="float32",
        layout="nc",
        device=device,
        versions={"dia_attention": __version__, "merged": __version__, "compiled": torch.__version__},
        seconds=seconds,
    )


class Cells:
    """The advances of the cells of a ResNet, forward and backward, as sum and first gradient over their float64."""

    def __init__(self, blocks: int, batch: int, device: str) -> None:
        self.blocks, self.device = blocks, device
        torch.manual_seed(0)
        self.cells = nn.ModuleList(DIA(width) for width in (64, 128, 256))
        pooled = [torch.randn(blocks, batch, width) for width in (64, 128, 256)]
        wide = copy.deepcopy(self.cells).double()
        self.exact = [value.item() for value in self._run(wide, [p.double() for p in pooled])]
        self.cells.to(device)
        self.pooled = [p.to(device) for p in pooled]

    def __call__(self, *_: Tensor) -> list[Tensor]:
        """Give both as ratios, 1 where they are right."""
        return [value / exact for value, exact in zip(self._run(self.cells, self.pooled), self.exact, strict=True)]

    @staticmethod
    def _run(cells: nn.ModuleList, pooled: Sequence[Tensor]) -> list[Tensor]:
        pooled = [p.requires_grad_() for p in pooled]
        total = pooled[0].new_zeros(())
        gates = []
        for cell, stage in zip(cells, pooled, strict=True):
            state = cell.initial_state(stage[0])
            for p in stage.unbind():
                a, *state = cell(p, *state)
                gates.append(a)
        total = torch.stack([gate.square().sum() for gate in gates]).sum()
        first, *_ = torch.autograd.grad(total, [*cells.parameters(), *pooled])
        return [total.detach(), first.norm()]


def share_rows(device: Any, quick: bool) -> list[dict[str, Any]]:
    """The rows of a training step and of the cells in it."""
    depth, batch = (29, 4) if quick else (164, 32 if device == "cpu" else 128)

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(batch, 3, 32, 32, generator=generator)
        return [images.to(device), torch.randint(10, (batch,), generator=generator).to(device)]

    images, labels = (value.cpu() for value in inputs(0))
    torch.manual_seed(0)
    step = Step(cifar_resnet(depth, attention="dia"), "nchw", device, images, labels)
    return compare(
        "cell_share",
        {"dia_attention": step, "cells": Cells((depth - 2) // 9, batch, device)},
        inputs,
        reference=lambda *_: [torch.ones(()), torch.ones(())],
        tolerance=5e-2,  # as bench_step.py
        mode="fwdbwd",
        shape=(batch, 3, 32, 32),
        dtype="float32",
        layout="nchw",
        device=device,
        versions={"dia_attention": __version__, "cells": __version__},
        seconds=0.1 if quick else 8.0,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="The DIA cell, its merged form, and its share of a step.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="one width and batch, to see that it runs")
    arguments = parser.parse_args(argv)
    device, quick = arguments.device, arguments.quick
    sizes = [(64, 32)] if quick else [(width, batch) for width in WIDTHS for batch in BATCHES]
    cases = [(*size, mode) for size in sizes for mode in ("fwd", "fwdbwd")]
    groups = [partial(share_rows, device, quick)]
    groups += [partial(cell_rows, *case, device, 0.05 if quick else 0.3) for case in cases]
    correct = True
    for group in groups:
        rows = group()
        if rows[0]["op"] == "cell_share":  # a part of a step is no peer of it
            for row in rows:
                row["peer_ratio"] = None
        append_rows(arguments.out, rows)
        correct &= all(row["correct"] for row in rows)
        first = rows[0]
        ratios = {peer: round(ratio, 3) for peer, ratio in (first["peer_ratio"] or {}).items()}
        compiled = {row["impl"]: f"{row['first_us'] / 1e6:.1f} s" for row in rows if row["impl"] == "compiled"}
        wrong = {row["impl"]: row["rel_err"] for row in rows if not row["correct"]}
        notes = [f"first call {compiled}"] * bool(compiled) + [f"wrong {wrong}"] * bool(wrong)
        notes += ["noisy"] * bool(first["noisy"])
        print(f"{first['op']} {first['shape']} {first['mode']}: {first['median_us']} us {ratios}", *notes, sep=", ")
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
