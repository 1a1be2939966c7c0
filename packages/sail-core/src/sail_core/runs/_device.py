"""The device a word names, and the dtype that device computes in."""

from __future__ import annotations

import torch


def pick_device(name: str = "auto") -> torch.device:
    """Turn the value of a ``--device`` option into a device that exists.

    Args:
        name: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is one and the CPU elsewhere.

    Returns:
        The device.

    Raises:
        ValueError: The name is none of the three, or it is ``"cuda"`` and this machine has no CUDA device.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {name!r}; it must be 'auto', 'cpu' or 'cuda'")
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise ValueError("device is 'cuda', but torch sees no CUDA device here; use 'cpu' or 'auto'")
    return torch.device("cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype to compute in: bfloat16 where the device has it in hardware, else float32.

    float16 is never chosen, because it would need a loss scaler.

    Args:
        device: Where the computation runs.

    Returns:
        ``torch.bfloat16`` or ``torch.float32``.

    Example:
        >>> pick_dtype(torch.device("cpu"))
        torch.float32
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32
