"""A stage of residual blocks that threads the state of one shared attention cell through its blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from sail_core.ops import recalibrate
from torch import Tensor, nn

from ._blocks import Decompose
from ._dia import DIA, Init

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class AttachConfig:
    """Everything that is needed to attach again: the arguments of ``attach`` with their defaults filled in."""

    name: str
    stages: tuple[int, ...]
    reduction: int
    init: Init
    check_finite: bool
    options: dict[str, Any]


class Stage(nn.Module):
    """The blocks of ``plain``, under their own names, and the cell, under the attention's name.

    A block is taken apart by its adapter and not called as a module: hooks belong on the stage, on the cell (called
    once a block, in order) or on the layers inside a block.

    Iterating yields one function a block, which is how timm's gradient checkpointing runs a stage piece by piece: the
    first takes features, the last returns features, and in between the state travels with them. For that reason this
    is not an ``nn.Sequential``, whose children would be called without the state.

    Args:
        plain: The stage to take over; it keeps its blocks and comes back with ``detach``.
        decompose: The decomposition of each block, in order.
        cell: The shared cell.
        config: What ``attach`` was called with.
        path: The stage's path in the model, for messages.
    """

    def __init__(
        self,
        plain: nn.Sequential,
        *,
        decompose: tuple[Decompose, ...],
        cell: DIA,
        config: AttachConfig,
        path: str,
    ) -> None:
        super().__init__()
        self.block_names = tuple(plain._modules)  # named_children() would leave out a block that occurs twice
        for name, block in zip(self.block_names, plain, strict=True):
            self.add_module(name, block)
        self.add_module(config.name, cell)
        self.config, self.path = config, path
        self._decompose = decompose
        self._plain = (plain,)  # in a tuple, so that it is no child
        self.training = plain.training

    @property
    def cell(self) -> DIA:
        """The shared cell."""
        cell: DIA = getattr(self, self.config.name)
        return cell

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, C_in, H, W)`` to ``(B, C, H', W')``; the state starts at zero."""
        state: State = ()
        for index in range(len(self)):
            x, state = self._step(index, x, state)
        return x

    def _step(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        cell, block = self.cell, f"{self.path}.{self.block_names[index]}"
        if x.ndim != 4:
            raise ValueError(f"{block}: expected features (B, C, H, W), got {tuple(x.shape)}")
        branch, skip, tail = self._decompose[index](self[index], x)
        if branch.ndim != 4 or branch.shape[1] != cell.channels:
            expected = f"(B, {cell.channels}, H, W)"
            raise ValueError(f"{block}: {self.config.name} expects a branch {expected}, got {tuple(branch.shape)}")
        if self.config.check_finite and not torch.isfinite(branch).all():
            raise ValueError(f"{block}: the residual branch holds NaN or infinity, found by check_finite=True")
        state = state or cell.initial_state(branch)
        if callable(tail):
            gated, *after = recalibrate(branch, cell, state=state)
            return tail(gated, skip), tuple(after)
        y, *after = recalibrate(branch, cell, state=state, residual=skip, activation=tail)
        return y, tuple(after)

    def __len__(self) -> int:
        return len(self.block_names)

    def __getitem__(self, index: int) -> nn.Module:
        """Return a block, as indexing the plain stage does."""
        block: nn.Module = getattr(self, self.block_names[index])  # torch 2.7 cannot compile get_submodule
        return block

    def __iter__(self) -> Iterator[Callable[[Any], Any]]:
        return (self._piece(index) for index in range(len(self)))

    def _piece(self, index: int) -> Callable[[Any], Any]:
        def run(carried: Any) -> Any:
            x, *state = carried if index else (carried,)
            if x.requires_grad and index and not torch.is_grad_enabled():
                raise RuntimeError(
                    f"{self.path}: reentrant checkpointing loses the gradient of the state of {self.config.name!r} "
                    "between blocks; use the non-reentrant kind (use_reentrant=False)"
                )
            x, after = self._step(index, x, tuple(state))
            return x if index == len(self) - 1 else (x, *after)

        return run

    def restore(self) -> nn.Sequential:
        """Return the plain stage with this stage's blocks and mode."""
        (plain,) = self._plain
        for name in self.block_names:
            plain.add_module(name, self.get_submodule(name))
        plain.training = self.training
        return plain
