"""A stage of residual blocks that threads the state of one shared attention cell through its blocks."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from sail_core.ops import pool, recalibrate
from torch import Tensor, nn

from ._blocks import Adapter, Tail
from ._config import AttachConfig
from ._gate import ChannelGate, refusal_of
from ._sharing import containers_apart, norms_apart
from ._tail import early_means, finish_early, last_pointwise

State = tuple[Tensor, ...]


class Stage(nn.Module):
    """The blocks of ``plain``, under their own names, and their attention, under the attention's name.

    A block is taken apart by its adapter and not called as a module: hooks belong on the stage, on the attention (of a
    shared one called once a block, in order) or on the layers inside a block.

    Iterating yields one function a block, which is how timm's gradient checkpointing runs a stage piece by piece: the
    first takes features, the last returns features, and in between the state travels with them. For that reason this
    is not an ``nn.Sequential``, whose children would be called without the state.

    Without gradients a gate is computed before a last 1x1 convolution (``_tail``); ``pool_early = False`` forces the
    form of training.

    Args:
        plain: The stage to take over; it keeps its blocks and comes back with ``detach``.
        adapters: That of each block, in order.
        widths: C of each block.
        attentions: That of each block, in order: each its own, the same for all, or views of the first.
        config: What ``attach`` or ``share`` was called with.
        path: The stage's path in the model, for messages.
    """

    def __init__(
        self,
        plain: nn.Sequential,
        *,
        adapters: tuple[Adapter, ...],
        widths: tuple[int, ...],
        attentions: tuple[nn.Module, ...],
        config: AttachConfig,
        path: str,
    ) -> None:
        super().__init__()
        self.block_names = tuple(plain._modules)  # named_children() would leave out a block that occurs twice
        for name, block in zip(self.block_names, plain, strict=True):
            self.add_module(name, block)
        self.adapters, self.widths, self.path = adapters, widths, path
        self._plain = (plain,)  # in a tuple, so that it is no child
        self.pool_early = True
        self.training = plain.training
        self.set_attentions(attentions, config)

    def set_attentions(self, attentions: tuple[nn.Module, ...], config: AttachConfig) -> None:
        """Put in the attentions of all blocks, in place of those there may be."""
        for name in [name for name in self._modules if name not in self.block_names]:
            del self._modules[name]
        self.config, first = config, attentions[0]
        self._views: tuple[nn.Module, ...] = ()
        self._norms: tuple[tuple[nn.Module, str, nn.ModuleDict, str], ...] = ()
        self._containers: tuple[tuple[nn.Module, nn.Module], ...] = ()
        if config.per == "block":
            self.add_module(config.name, nn.ModuleDict(dict(zip(self.block_names, attentions, strict=True))))
            return
        self.add_module(config.name, first)
        if attentions[-1] is not first:
            self._views = attentions
            self._containers = tuple(pair for view in attentions[1:] for pair in containers_apart(view, first))
            found = [list(norms_apart(view, first)) for view in attentions[1:]]
            names = self.block_names[1:]
            own = {
                name: nn.ModuleDict({path: parent._modules[key] for path, parent, key in norms})  # type: ignore[misc]
                for name, norms in zip(names, found, strict=True)
            }
            self.add_module(f"{config.name}_norms", nn.ModuleDict(own))
            self._norms = tuple(
                (parent, key, own[name], path)
                for name, norms in zip(names, found, strict=True)
                for path, parent, key in norms
            )

    @property
    def attentions(self) -> tuple[nn.Module, ...]:
        """The attention of each block, in order; a shared one more than once."""
        return tuple(self._attention(index) for index in range(len(self)))

    def _attention(self, index: int) -> nn.Module:
        if self._views:
            return self._views[index]
        module: nn.Module = getattr(self, self.config.name)
        return module if self.config.per == "stage" else module[self.block_names[index]]  # type: ignore[index]

    def _refresh_views(self) -> None:
        """Let the views, which are not registered, follow norms that were replaced (by SyncBatchNorm) and the mode."""
        for parent, key, own, path in self._norms:
            if parent._modules[key] is not own[path]:
                parent._modules[key] = own[path]
        for copied, original in self._containers:
            if copied.training is not original.training:
                copied.training = original.training

    def train(self, mode: bool = True) -> "Stage":
        """Set the mode."""
        super().train(mode)
        self._refresh_views()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, C_in, *K)`` to ``(B, C, *K')``; the state starts anew."""
        self._refresh_views()
        state: State = ()
        for index in range(len(self)):
            x, state = self._step(index, x, state)
        return x

    def _step(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        attention, block = self._attention(index), f"{self.path}.{self.block_names[index]}"
        if x.ndim not in (4, 5):
            raise ValueError(f"{block}: expected features (B, C, H, W), got {tuple(x.shape)}")
        adapter, plain = self.adapters[index], self[index]
        assert adapter.parts is not None, "attach refuses a block that has none"
        z, skip, tail = adapter.parts(plain, x)
        early = isinstance(attention, ChannelGate) and self.pool_early and not self.config.check_finite
        last = last_pointwise(adapter, plain) if early else None
        if last is not None and isinstance(attention, ChannelGate) and z.ndim == 4:
            self._refuse(attention, block, z, width=last.conv.out_channels, index=index)
            p = early_means(last, z)
            state = self._entering(attention, block, p, skip, state)
            a, after = _split(attention(p, *state))
            return finish_early(last, z, a, skip, tail), after

        branch = adapter.finish(plain, z)
        self._refuse(attention, block, branch, width=branch.shape[1] if branch.ndim == x.ndim else -1, index=index)
        if not isinstance(attention, ChannelGate):
            attended = attention(branch)
            if attended.shape != branch.shape:
                raise ValueError(
                    f"{block}: the attention made {tuple(attended.shape)} of a branch {tuple(branch.shape)}; "
                    "it must keep the shape"
                )
            return _finish(attended, skip, tail), ()
        state = self._entering(attention, block, branch, skip, state)
        if callable(tail):
            gated, after = _split(recalibrate(branch, attention, state=state))
            return tail(gated, skip), after
        return _split(recalibrate(branch, attention, state=state, residual=skip, activation=tail))

    def _refuse(self, attention: nn.Module, block: str, branch: Tensor, *, width: int, index: int) -> None:
        if width != self.widths[index]:
            expected = f"(B, {self.widths[index]}, H, W)"
            raise ValueError(f"{block}: {self.config.name} expects a branch {expected}, got {tuple(branch.shape)}")
        if self.config.check_finite and not torch.isfinite(branch).all():
            raise ValueError(f"{block}: the residual branch holds NaN or infinity, found by check_finite=True")
        if refusal := refusal_of(attention, branch):
            raise ValueError(f"{block}: {self.config.name} {refusal}")

    def _entering(self, gate: ChannelGate, block: str, x: Tensor, skip: Tensor | None, state: State) -> State:
        """What a gate gets besides the means: the state, and the pooled skip where it asks for it."""
        state = state or gate.initial_state(x)
        if not gate.needs_skip:
            return state
        if skip is None:
            raise ValueError(f"{block}: {self.config.name} needs the skip, and this block has none")
        return (pool(skip), *state)

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


def _finish(branch: Tensor, skip: Tensor | None, tail: Tail) -> Tensor:
    if callable(tail):
        return tail(branch, skip)
    y = branch if skip is None else branch + skip
    return y if tail is None else torch.relu(y)


def _split(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, State]:
    return (output, ()) if isinstance(output, Tensor) else (output[0], output[1:])
