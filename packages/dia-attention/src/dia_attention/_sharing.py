"""One attention in several blocks, each block with norms of its own."""

import copy

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
    view._modules = {
        name: None if child is None else with_own_norms(child)  # type: ignore[misc]
        for name, child in module._modules.items()
    }
    return view
