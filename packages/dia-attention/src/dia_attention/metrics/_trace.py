"""What passes through every residual block of a network, plain or attached: one record a block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dia_attention._blocks import Adapter
from dia_attention._find import stages_in
from dia_attention._gate import ChannelGate
from dia_attention._stage import Stage


@dataclass(frozen=True)
class BlockRecord:
    """One block on one batch.

    Attributes:
        path: The block's path in the model.
        x: Its input `(B, C_in, H, W)`.
        skip: The skip `(B, C, H', W')`, or None where the block has none.
        branch: The branch that is added, its gate applied, `(B, C, H', W')`.
        output: The block's output.
        function: The branch with its gate as a function of the input, for derivatives.
    """

    path: str
    x: Tensor
    skip: Tensor | None
    branch: Tensor
    output: Tensor
    function: Callable[[Tensor], Tensor]


def trace(model: nn.Module, batch: Any) -> list[BlockRecord]:
    """Run the model on a batch and record every residual block that `attach` knows.

    The model must be in eval mode, because the branches are computed a second time; everything that is changed for the
    recording is put back.

    Raises:
        ValueError: The model is in training mode, or has no residual block that `attach` knows.
    """
    if model.training:
        raise ValueError("call eval() first: what a network in training mode shows depends on the batch")
    stages = list(stages_in(model))
    if not stages:
        raise ValueError(f"{type(model).__name__} has no residual stage that attach knows")
    records: list[BlockRecord] = []
    with _recording(stages, records):
        model(batch)
    return records


@contextmanager
def _recording(stages: list[Any], records: list[BlockRecord]) -> Iterator[None]:
    hooks: list[Any] = []
    changed: list[Stage] = []
    try:
        for path, stage, adapters in stages:
            if isinstance(stage, Stage):
                stage._step = _stepping(stage, records)  # type: ignore[method-assign]
                changed.append(stage)
                continue
            for name, block, adapter in zip(stage._modules, stage, adapters, strict=True):
                hooks.append(block.register_forward_hook(_watching(f"{path}.{name}", adapter, records)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for stage in changed:
            del stage._step


def _watching(path: str, adapter: Adapter, records: list[BlockRecord]) -> Callable[..., None]:
    def watch(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        (x,) = inputs
        if adapter.parts is None:
            return
        branch, skip = _parts(adapter, block, x)
        records.append(BlockRecord(path, x, skip, branch, output, lambda x: _parts(adapter, block, x)[0]))

    return watch


def _parts(adapter: Adapter, block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Branch, without a gate of the stage's, and skip."""
    assert adapter.parts is not None, "only blocks that come apart are recorded"
    z, skip, _ = adapter.parts(block, x)
    return adapter.finish(block, z), skip


def _stepping(stage: Stage, records: list[BlockRecord]) -> Callable[..., Any]:
    original = stage._step

    def step(index: int, x: Tensor, state: tuple[Tensor, ...]) -> Any:
        output, after = original(index, x, state)
        block, adapter, attention = stage[index], stage.adapters[index], stage.attentions[index]

        def parts(x: Tensor) -> tuple[Tensor, Tensor | None]:
            branch, skip = _parts(adapter, block, x)
            if not isinstance(attention, ChannelGate):
                return attention(branch), skip
            carried = state or attention.initial_state(branch)
            if attention.needs_skip and skip is not None:
                carried = (skip.flatten(2).mean(2), *carried)
            found = attention(branch.flatten(2).mean(2), *carried)
            gate: Tensor = found[0] if isinstance(found, tuple) else found
            return branch * gate.reshape(*gate.shape, *[1] * (branch.ndim - 2)), skip

        branch, skip = parts(x)
        path = f"{stage.path}.{stage.block_names[index]}"
        records.append(BlockRecord(path, x, skip, branch, output, lambda x: parts(x)[0]))
        return output, after

    return step


@torch.no_grad()
def quiet_trace(model: nn.Module, batch: Any) -> list[BlockRecord]:
    """`trace` without gradients."""
    return trace(model, batch)
