"""The identity of weights: an exact digest, and a likeness that survives a change of dtype."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

_VALUES = 65_536
_TENSORS, _FEW = 64, 16


def weights_digest(model: Any) -> str:
    """Name all weights of a model, adapters included: blake2b of every tensor's name, shape, dtype and values.

    Of a tensor with more than 65,536 values, as many are read, evenly spaced, so that a model of billions takes seconds
    too.

    Args:
        model: A module.

    Returns:
        32 hexadecimal digits.
    """
    found = blake2b(digest_size=16)
    for name, value in _named(model).items():
        found.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        found.update(_sample(value, _VALUES).contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def weights_version(model: Any) -> int:
    """Count the changes made to weights in place, so that what was derived from them can be known to be stale.

    Weights made in inference mode have no such count and are left out.
    """
    return sum(one._version for one in model.parameters() if not one.is_inference())


def base_identity(model: Any) -> dict[str, Any]:
    """Describe the weights below an adapter, so that the adapter can later be kept from another model.

    Args:
        model: A module; weights of adapters are left out.

    Returns:
        ``architecture``; ``tensors``, a digest of names and shapes; ``values``, 16 values of each of 64 tensors.
    """
    named = {name: value for name, value in _named(model).items() if "lora_" not in name}
    names = [*named]
    chosen = names if len(names) <= _TENSORS else [names[at * len(names) // _TENSORS] for at in range(_TENSORS)]
    shapes = "\n".join(f"{name} {tuple(value.shape)}" for name, value in named.items())
    return {
        "architecture": type(model).__name__,
        "tensors": blake2b(shapes.encode(), digest_size=16).hexdigest(),
        "values": {name: _sample(named[name], _FEW).float().tolist() for name in chosen},
    }


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Say how two identities differ beyond the rounding of bfloat16, or None.

    Args:
        there: The identity that was saved.
        here: That of the model at hand.

    Returns:
        Words for an error, or None where they are of one model.
    """
    if there["architecture"] != here["architecture"]:
        return f"a {there['architecture']}, this is a {here['architecture']}"
    if there["tensors"] != here["tensors"]:
        return f"a {there['architecture']} of other sizes"
    for name, values in there["values"].items():
        one, other = torch.tensor(values), torch.tensor(here["values"][name])
        if not torch.allclose(one, other, rtol=1e-2, atol=1e-5):
            return f"a model of the same form with other weights in {name}"
    return None


def _named(model: Any) -> dict[str, Tensor]:
    named = {name.replace(".base_layer.", "."): value.detach() for name, value in model.named_parameters()}
    return dict(sorted(named.items()))


def _sample(value: Tensor, most: int) -> Tensor:
    flat = value.reshape(-1)
    if flat.numel() <= most:
        return flat
    return flat[(torch.arange(most) * flat.numel() // most).to(flat.device)]
