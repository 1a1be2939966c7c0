"""The hook objects that scale a skip on its way into the module that takes it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._scalings import ConstantScale
from ._sites import SkipSite, UnsupportedModelError, position
from .functional import scaled_concat


class Scaling(nn.Module):
    """What `attach` registers as ``model.scalelong``: the scale, the sites, and what is needed to attach it again."""

    def __init__(
        self, scale: nn.Module, sites: Sequence[SkipSite], config: dict[str, Any], active: frozenset[int]
    ) -> None:
        super().__init__()
        self.scale = scale
        self.sites, self.config, self.active = tuple(sites), config, active
        self.record: dict[int, dict[str, float]] | None = None

    def forward(self, skip: Tensor, index: int) -> Tensor:
        """Scale the skip of site ``index``."""
        if index not in self.active:
            return skip
        out: Tensor = self.scale(skip, index)
        if self.record is not None:
            self._note(skip, out, index)
        return out

    def join(self, x: Tensor, start: int, index: int) -> Tensor:
        """Scale the channels from ``start`` on, the skip half of a concatenation."""
        scale = self.scale
        if self.record is None and index in self.active and isinstance(scale, ConstantScale):
            if torch.compiler.is_compiling():  # one pointwise operation, which the compiler fuses
                skip = torch.arange(x.shape[1], device=x.device) >= start
                return torch.where(skip.view(-1, *[1] * (x.dim() - 2)), scale(x, index), x)
            if not scale.mutable:
                return scaled_concat(x[:, :start], x[:, start:], scale.values[index - 1])
        return torch.cat([x[:, :start], self(x[:, start:], index)], dim=1)

    @torch.no_grad()
    def _note(self, skip: Tensor, out: Tensor, index: int) -> None:
        assert self.record is not None, "the caller looked"
        before, after = skip.detach().float(), out.detach().float()
        norm, scaled = before.norm() / len(before) ** 0.5, after.norm() / len(after) ** 0.5
        self.record[index] = {"norm": norm.item(), "scaled": scaled.item(), "gate": (scaled / norm).item()}


class SkipHook:
    """A forward pre-hook of one module; an object, so that copies and pickles point to their own scaling."""

    def __init__(self, scaling: Scaling, sites: Sequence[SkipSite], module: nn.Module) -> None:
        self.scaling, self.sites = scaling, tuple(sites)
        self.arg = sites[0].arg
        self.place = position(module, self.arg)

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Replace the skip among the arguments by the scaled one."""
        if self.arg in kwargs:
            return args, {**kwargs, self.arg: self._scaled(kwargs[self.arg])}
        if self.place < len(args):
            scaled = self._scaled(args[self.place])
            return (*args[: self.place], scaled, *args[self.place + 1 :]), kwargs
        raise self._missing(self.sites[0])

    def _scaled(self, value: Any) -> Any:
        first = self.sites[0]
        if first.columns is not None:
            return self._split(value, first)
        if first.slot is None:
            if not isinstance(value, Tensor):
                raise self._missing(first)
            return self.scaling(value, first.index)
        items = list(value)
        for site in self.sites:
            assert site.slot is not None, "an adapter gives all sites of a module a slot or none"
            if len(items) < -site.slot or not isinstance(items[site.slot], Tensor):
                raise self._missing(site)
            items[site.slot] = self.scaling(items[site.slot], site.index)
        return tuple(items) if isinstance(value, tuple) else items

    def _split(self, value: Tensor, site: SkipSite) -> Tensor:
        assert site.columns is not None, "the caller looked"
        start, stop = site.columns
        if value.shape[1] < stop:
            raise UnsupportedModelError(
                f"{site.module} takes {value.shape[1]} channels, and the skip was expected in {start} to {stop}: give "
                "attach example_inputs, or register an adapter"
            )
        if start == 0:
            return torch.cat([self.scaling(value[:, :stop], site.index), value[:, stop:]], dim=1)
        return self.scaling.join(value, start, site.index)

    def _missing(self, site: SkipSite) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"skip {site.index} did not arrive at {site.module} ({site.arg}), so the depths are not what attach "
            "counted: give attach example_inputs, which number the skips by what arrives"
        )


def insert(model: nn.Module, scaling: Scaling) -> None:
    """Register the scaling and its hooks."""
    by_module: dict[str, list[SkipSite]] = {}
    for site in scaling.sites:
        by_module.setdefault(site.module, []).append(site)
    hooks = [(model.get_submodule(path), sites) for path, sites in by_module.items()]
    made = [(module, SkipHook(scaling, sites, module)) for module, sites in hooks]
    for module, hook in made:
        module.register_forward_pre_hook(hook, with_kwargs=True)
    model.add_module("scalelong", scaling)


def remove(model: nn.Module) -> None:
    """Take the scaling and its hooks out."""
    for module in model.modules():
        for key in [key for key, hook in module._forward_pre_hooks.items() if isinstance(hook, SkipHook)]:
            del module._forward_pre_hooks[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)
    del model.scalelong
