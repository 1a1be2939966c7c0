"""One attention in several blocks, each block with norms of its own."""

import copy
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def with_own_norms(module: nn.Module) -> nn.Module:
    """Return a view of a module: the same parameters and layers, but fresh copies of its batch and instance norms.

    Sharing the norms too would mix the running statistics of different layers. The containers of the view hold the
    very dictionaries of parameters and buffers of the original, so that moving or loading the original moves the view.
    A module without such a norm is its own view.
    """
    if not any(isinstance(inner, _NormBase) for inner in module.modules()):
        return module
    if isinstance(module, _NormBase):
        return copy.deepcopy(module)
    view = copy.copy(module)
    view._modules = {name: None if child is None else with_own_norms(child) for name, child in module._modules.items()}
    return view


def containers_apart(view: nn.Module, original: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield every container that a view has for itself, with the one it was copied from."""
    if view is original or isinstance(view, _NormBase):
        return
    yield view, original
    for key, child in view._modules.items():
        other = original._modules[key]
        if child is not None and other is not None:
            yield from containers_apart(child, other)


def norms_apart(view: nn.Module, original: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module, str]]:
    """Yield path (with underscores), container and key of every norm that a view has for itself."""
    for key, child in view._modules.items():
        other, at = original._modules[key], f"{path}_{key}" if path else key
        if child is None or other is None or child is other:
            continue
        if isinstance(child, _NormBase):
            yield at, view, key
        else:
            yield from norms_apart(child, other, at)
