"""The scalings as modules: constants, the authors' token gate, a gate for feature maps, a number a site."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from . import functional
from ._warning import ScalingWarning


class ConstantScale(nn.Module):
    """Multiply the skip of site i by κ_i.

    Args:
        values: (κ_1, ..., κ_N), shallowest first, finite numbers.
        mutable: Keep κ in a tensor that a compiled graph reads, so that `set` does not recompile. Otherwise it is a
            Python number, which costs nothing and is exact in every dtype.
        device: Of the buffer.

    Raises:
        ValueError: A value is not finite, or there is none.

    Example:
        >>> import torch
        >>> ConstantScale([1.0, 0.5])(torch.ones(2), 2)
        tensor([0.5000, 0.5000])
    """

    kappas: Tensor

    def __init__(self, values: Sequence[float], *, mutable: bool = False, device: Any = None) -> None:
        super().__init__()
        self.mutable = mutable
        self.register_buffer("kappas", torch.empty(0, dtype=torch.float64, device=device))
        self.set(values)

    @property
    def values(self) -> tuple[float, ...]:
        """(κ_1, ..., κ_N)."""
        return self._values

    def set(self, values: Sequence[float]) -> None:
        """Replace κ, in place where a compiled graph can read it."""
        numbers = tuple(float(value) for value in values)
        if not numbers or not all(map(math.isfinite, numbers)):
            raise ValueError(f"the kappas {numbers} must be finite numbers, one a site")
        self._values = numbers
        new = torch.tensor(numbers, dtype=self.kappas.dtype, device=self.kappas.device)
        if self.kappas.shape == new.shape:
            with torch.no_grad():
                self.kappas.copy_(new)
        else:
            self.kappas = new

    def forward(self, skip: Tensor, index: int) -> Tensor:
        """Scale the skip of site ``index`` (1 is the shallowest); any shape."""
        if self.mutable:
            return skip * self.kappas[index - 1].to(torch.promote_types(skip.dtype, torch.float32))
        value = self._values[index - 1]
        return skip if value == 1 else skip * value

    def _apply(self, fn: Any, recurse: bool = True) -> "ConstantScale":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.kappas.device.type != "meta":  # a cast of the model must not round its constants
            wide = torch.float32 if self.kappas.device.type == "mps" else torch.float64
            self.kappas = torch.tensor(self._values, dtype=wide, device=self.kappas.device)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        there = state_dict.get(f"{prefix}kappas")
        if there is None or there.shape != self.kappas.shape:
            if there is None:  # constants are no weights: say it loudly, but load the weights
                state_dict = {**state_dict, f"{prefix}kappas": self.kappas}
                _warn(f"these weights come from a model without scaling; this one keeps {self.extra_repr()}")
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        loaded = tuple(there.double().tolist())
        super()._load_from_state_dict(state_dict, prefix, *args)
        if loaded != self._values:
            _warn(f"these weights come from a model with kappas {loaded}, which replace {self.extra_repr()}")
            self.set(loaded)

    def extra_repr(self) -> str:
        """Name the values."""
        return f"[{', '.join(f'{value:.4g}' for value in self._values)}]" + ", mutable=True" * self.mutable


class LSToken(nn.Module):
    """The authors' learnable scaling, LS: one gate a token of a sequence of fixed length.

    ``gate = σ(W2 relu(W1 mean_D x + b1) + b2)``, hidden width L // reduction; see `functional.ls_token_gate`.
    Torch's own initialisation, as in the authors' code, starts it near "halve every skip".

    Args:
        tokens: Sequence length L, extra tokens included.
        reduction: r of the hidden width L // r.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: The hidden width would be 0, so that the gate were a constant.

    Example:
        >>> import torch
        >>> LSToken(32).gate(torch.zeros(2, 32, 8)).shape
        torch.Size([2, 32, 1])

    Reference:
        arXiv 2310.13545.
    """

    def __init__(self, tokens: int, *, reduction: int = 16, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if tokens // reduction < 1:
            raise ValueError(
                f"{tokens} tokens with reduction {reduction} leave a hidden width of 0, a gate that sees nothing: "
                f"give a reduction of at most {tokens}, or use 'ls_scalar'"
            )
        self.tokens = tokens
        self.layer1 = nn.Linear(tokens, tokens // reduction, device=device, dtype=dtype)
        self.layer2 = nn.Linear(tokens // reduction, tokens, device=device, dtype=dtype)

    def gate(self, skip: Tensor) -> Tensor:
        """The gate ``(B, L, 1)`` of a skip ``(B, L, D)``."""
        if skip.dim() != 3 or skip.shape[1] != self.tokens:
            raise ValueError(
                f"this gate was built for sequences of {self.tokens} tokens, and a skip of shape {tuple(skip.shape)} "
                "came: LS is bound to one resolution; build it for the new one, or use 'ls_scalar'"
            )
        one, two = self.layer1, self.layer2
        kind = skip.dtype
        return functional.ls_token_gate(
            skip, one.weight.to(kind), one.bias.to(kind), two.weight.to(kind), two.bias.to(kind)
        ).to(kind)

    def forward(self, skip: Tensor, index: int = 1) -> Tensor:
        """Scale a skip ``(B, L, D)``; all sites share the gate, ``index`` is not used."""
        return skip * self.gate(skip)


class LSScalar(nn.Module):
    """A learnable gate for feature maps of any width and resolution. Ours: the authors' code has none for UNets.

    ``gate = σ(W2 relu(W1 [mean x, rms x, i/N] + b1) + b2)``, one number a sample and site, 81 parameters for all sites.

    Args:
        count: Number of sites N.
        hidden: Hidden width.
        device: Of the parameters.
        dtype: Of the parameters.

    Example:
        >>> import torch
        >>> LSScalar(6).gate(torch.zeros(2, 5, 8, 8), 3).shape
        torch.Size([2, 1, 1, 1])
    """

    def __init__(self, count: int, *, hidden: int = 16, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.count = count
        self.layer1 = nn.Linear(3, hidden, device=device, dtype=dtype)
        self.layer2 = nn.Linear(hidden, 1, device=device, dtype=dtype)

    def gate(self, skip: Tensor, index: int) -> Tensor:
        """The gate ``(B, 1, ...)`` of the skip ``(B, ...)`` of site ``index``, computed in float32 at least."""
        flat = skip.flatten(1)
        flat = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
        mean, rms = flat.mean(1), (flat.square().mean(1) + 1e-12).sqrt()
        stats = torch.stack([mean, rms, torch.full_like(mean, index / self.count)], dim=1)
        kind, one, two = stats.dtype, self.layer1, self.layer2
        hidden = relu(linear(stats, one.weight.to(kind), one.bias.to(kind)))
        gate = torch.sigmoid(linear(hidden, two.weight.to(kind), two.bias.to(kind)))
        return gate.to(skip.dtype).view(-1, *[1] * (skip.dim() - 1))

    def forward(self, skip: Tensor, index: int) -> Tensor:
        """Scale the skip ``(B, ...)`` of site ``index``."""
        return skip * self.gate(skip, index)


class LSStatic(nn.Module):
    """One learnable number a site, which `fold` can put into the weights after training. Ours.

    Args:
        values: The numbers it starts from, shallowest first.
        device: Of the parameter.
        dtype: Of the parameter.

    Example:
        >>> import torch
        >>> LSStatic([1.0, 0.5])(torch.ones(1), 2)
        tensor([0.5000], grad_fn=<MulBackward0>)
    """

    def __init__(self, values: Sequence[float], *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.kappas = nn.Parameter(torch.tensor(list(values), device=device, dtype=dtype or torch.get_default_dtype()))

    @property
    def values(self) -> tuple[float, ...]:
        """The learned numbers."""
        return tuple(self.kappas.detach().double().tolist())

    def forward(self, skip: Tensor, index: int) -> Tensor:
        """Scale the skip of site ``index``."""
        return skip * self.kappas[index - 1].to(skip.dtype)


def _warn(message: str) -> None:
    warnings.warn(
        f"{message}: attach the same scaling before loading, or use scalelong.load", ScalingWarning, stacklevel=3
    )


def start_gate(gate: LSToken | LSScalar, value: float) -> None:
    """Let a gate begin as the constant ``value`` in (0, 1): W2 = 0 and b2 = logit(value)."""
    if not 0 < value < 1:
        raise ValueError(f"gate_init is {value}; a sigmoid takes values strictly between 0 and 1")
    with torch.no_grad():
        gate.layer2.weight.zero_()
        gate.layer2.bias.fill_(math.log(value / (1 - value)))
