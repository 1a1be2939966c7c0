"""Adapters that do something, without training; needs torch alone."""

import torch
from sur_adapter import SURAdapter


def trained(width, *, seed=0, **options):
    """An adapter whose last layer is not zero, so that it does something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapter = SURAdapter(width, **({"num_heads": 4, "ff_dim": 64, "scale": 0.5} | options)).eval()
        torch.nn.init.normal_(adapter.fc.weight, std=width**-0.5)
        torch.nn.init.normal_(adapter.fc.bias, std=0.1)
    return adapter
