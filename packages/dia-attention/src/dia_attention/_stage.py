"""A stage of residual blocks that threads the state of one shared attention cell through its blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sail_core.ops import pool, recalibrate
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ._blocks import Adapter, Tail
from ._gate import ChannelGate

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class AttachConfig:
    """Everything that is needed to attach again: the arguments of ``attach`` or ``share`` with their defaults."""

    name: str
    stages: tuple[int, ...]
    init: str
    check_finite: bool
    options: dict[str, Any]
    per: Literal["stage", "block"] = "block"
    share_norm: bool = True
    folded: bool = False


class Stage(nn.Module):
    """The blocks of ``plain``, under their own names, and their attention, under the attention's name.

    A block is taken apart by its adapter and not called as a module: hooks belong on the stage, on the attention (of a
    shared one called once a block, in order) or on the layers inside a block.

    Iterating yields one function a block, which is how timm's gradient checkpointing runs a stage piece by piece: the
    first takes features, the last returns features, and in between the state travels with them. For that reason this
    is not an ``nn.Sequential``, whose children would be called without the state.

    Args:
        plain: The stage to take over; it keeps its blocks and comes back with ``detach``.
        adapters: That of each block, in order.
        attentions: That of each block, in order. A module that occurs more than once is shared and registered once.
        config: What ``attach`` or ``share`` was called with.
        path: The stage's path in the model, for messages.
    """

    def __init__(
        self,
        plain: nn.Sequential,
        *,
        adapters: tuple[Adapter, ...],
        attentions: tuple[nn.Module, ...],
        config: AttachConfig,
        path: str,
    ) -> None:
        super().__init__()
        self.block_names = tuple(plain._modules)  # named_children() would leave out a block that occurs twice
        for name, block in zip(self.block_names, plain, strict=True):
            self.add_module(name, block)
        self.adapters, self.path = adapters, path
        self._plain = (plain,)  # in a tuple, so that it is no child
        self.training = plain.training
        self.set_attentions(attentions, config)

    def set_attentions(self, attentions: tuple[nn.Module, ...], config: AttachConfig) -> None:
        """Put in the attentions of all blocks, in place of those there may be."""
        for name in [name for name in self._modules if name not in self.block_names]:
            del self._modules[name]
        self.config = config
        if config.per == "stage":
            self.add_module(config.name, attentions[0])
        else:
            self.add_module(config.name, nn.ModuleDict(dict(zip(self.block_names, attentions, strict=True))))
        if config.per == "stage" and not config.share_norm and (norms := own_norms(attentions)):
            named = dict(zip(self.block_names[1:], norms, strict=True))
            self.add_module(f"{config.name}_norms", nn.ModuleDict(named))
        # In a tuple, because a view with norms of its own has nothing else that is not registered already.
        self.attentions = attentions

    def train(self, mode: bool = True) -> "Stage":
        """Set the mode, also of the views that are not registered."""
        super().train(mode)
        for attention in self.attentions:
            for module in attention.modules():
                module.training = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, C_in, *K)`` to ``(B, C, *K')``; the state starts anew."""
        state: State = ()
        for index in range(len(self)):
            x, state = self._step(index, x, state)
        return x

    def _step(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        attention, block = self.attentions[index], f"{self.path}.{self.block_names[index]}"
        if x.ndim not in (4, 5):
            raise ValueError(f"{block}: expected features (B, C, H, W), got {tuple(x.shape)}")
        branch, skip, tail = self.adapters[index].decompose(self[index], x)
        if self.config.check_finite and not torch.isfinite(branch).all():
            raise ValueError(f"{block}: the residual branch holds NaN or infinity, found by check_finite=True")
        if not isinstance(attention, ChannelGate):
            return _finish(attention(branch), skip, tail), ()
        if refusal := attention.refusal(branch):
            raise ValueError(f"{block}: {self.config.name} {refusal}")
        state = state or attention.initial_state(branch)
        if attention.needs_skip:
            if skip is None:
                raise ValueError(f"{block}: {self.config.name} needs the skip, and this block has none")
            state = (pool(skip), *state)
        if callable(tail):
            gated, after = _split(recalibrate(branch, attention, state=state))
            return tail(gated, skip), after
        return _split(recalibrate(branch, attention, state=state, residual=skip, activation=tail))

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
            if state and x.requires_grad and not torch.is_grad_enabled():
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


def own_norms(attentions: tuple[nn.Module, ...]) -> list[nn.ModuleDict]:
    """Return, for each view after the first, the norms it does not share with the first, by their paths."""
    shared = {id(module) for module in attentions[0].modules()}
    return [
        nn.ModuleDict(
            {
                path.replace(".", "_"): module
                for path, module in attention.named_modules()
                if isinstance(module, _NormBase) and id(module) not in shared
            }
        )
        for attention in attentions[1:]
        if attention is not attentions[0]
    ]


def _finish(branch: Tensor, skip: Tensor | None, tail: Tail) -> Tensor:
    if callable(tail):
        return tail(branch, skip)
    y = branch if skip is None else branch + skip
    return y if tail is None else torch.relu(y)


def _split(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, State]:
    return (output, ()) if isinstance(output, Tensor) else (output[0], output[1:])
