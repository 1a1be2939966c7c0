"""One seed for every generator, and their states as data that a checkpoint can hold."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU and every CUDA device).

    Args:
        seed: The seed, 0 <= seed < 2**32 (NumPy takes no other).
        deterministic: Also ask torch for deterministic algorithms, switch the choice of cuDNN kernels by timing off,
            and set ``CUBLAS_WORKSPACE_CONFIG`` unless it is set. cuBLAS reads that variable when it starts, so call
            this before the first work on a GPU. An operation that has no deterministic form then raises.

    Raises:
        TypeError: ``seed`` is not an int.
        ValueError: ``seed`` is out of range.

    Example:
        >>> seed_everything(7)
        >>> first = torch.rand(())
        >>> seed_everything(7)
        >>> bool(torch.rand(()) == first)
        True
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed is {seed!r} of type {type(seed).__name__}; it must be an int")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; it must be at least 0 and less than 2**32")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the global generator is the one that libraries draw from
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)


def rng_state() -> dict[str, Any]:
    """Return the state of every global generator, in a form that `save_state` takes.

    Returns:
        ``python``, ``numpy``, ``torch`` and ``cuda``: one tensor a CUDA device, none when CUDA was not used so far.

    Example:
        >>> state = rng_state()
        >>> first = torch.rand(())
        >>> set_rng_state(state)
        >>> bool(torch.rand(()) == first)
        True
    """
    cuda_in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda_in_use else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put every global generator back where `rng_state` found it.

    CUDA states are set on the devices that exist here: a state from a machine with more of them can be used on a
    smaller one, or on one without, which then does not draw the same numbers.

    Args:
        state: What `rng_state` returned, possibly through `save_state` and `load_state`.

    Raises:
        ValueError: ``state`` is not such a mapping; no generator was touched.
    """
    try:
        python, numpy = state["python"], state["numpy"]
        python_state = (python["version"], tuple(python["words"].tolist()), python["gauss"])
        keys = numpy["keys"].numpy().astype(np.uint32)
        numpy_state = (numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"])
        cpu, cuda = state["torch"].cpu(), [one.cpu() for one in state["cuda"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not a state made by rng_state(): {type(error).__name__} {error}") from error
    random.setstate(python_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    torch.set_rng_state(cpu)
    for index, one in enumerate(cuda[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(one, index)
