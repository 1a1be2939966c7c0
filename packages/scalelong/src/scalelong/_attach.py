"""Scale the long skips of a model that exists, and stop doing so."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

from ._hooks import Scaling, insert, remove
from ._scalings import ConstantScale, LSScalar, LSStatic, LSToken, start_gate
from ._sites import SkipSite, UnsupportedModelError, find_skips
from ._uvit import UViT
from .functional import check_kappa, cs_kappas, linear_kappas, sqrt2_kappas

Mode = Literal["cs", "sqrt2", "linear", "ls", "ls_scalar", "ls_static"]


CONFIG_KEY = "scalelong_config"  # not the name of the child: diffusers looks attributes up among its config first


class Handle:
    """The scaling of a model. `attach` returns it; `attached` finds it again, also in a copy of the model."""

    def __init__(self, model: nn.Module, scaling: Scaling) -> None:
        self.model, self.scaling = model, scaling

    @property
    def sites(self) -> tuple[SkipSite, ...]:
        """The long skips, shallowest first."""
        return self.scaling.sites

    @property
    def kappas(self) -> tuple[float, ...]:
        """(κ_1, ..., κ_N), shallowest first; 1 for a site that is left alone.

        Raises:
            ValueError: The gates depend on the input.
        """
        scale = self.scaling.scale
        if not isinstance(scale, ConstantScale | LSStatic):
            raise ValueError(f"{self.scaling.config['mode']!r} has gates that depend on the input: see monitor()")
        return tuple(
            value if index in self.scaling.active else 1.0 for index, value in enumerate(scale.values, start=1)
        )

    def set_kappa(self, kappa: float, *, allow_gt1: bool = False) -> None:
        """Change κ of ``"cs"`` or ``"linear"``. With ``mutable=True`` a compiled model is not compiled again.

        Raises:
            ValueError: The mode has no κ, or it is out of range.
        """
        config = self.scaling.config
        rule = {"cs": cs_kappas, "linear": linear_kappas}.get(config["mode"])
        if rule is None:
            raise ValueError(f"mode {config['mode']!r} has no kappa to set; 'cs' and 'linear' have one")
        allow_gt1 = allow_gt1 or config["allow_gt1"]
        values = rule(len(self.sites), kappa, allow_gt1=allow_gt1)
        scale = self.scaling.scale
        assert isinstance(scale, ConstantScale), "the rules give constants"
        scale.set(values)
        config |= {"kappa": float(kappa), "allow_gt1": allow_gt1, "values": list(values)}
        _note(self.model, config)

    def detach(self) -> None:
        """Take the scaling out; the model is what it was."""
        detach(self.model)

    @contextmanager
    def monitor(self) -> Iterator[dict[int, dict[str, float]]]:
        """Watch the skips: inside the block, each forward pass writes what it saw.

        Yields:
            By site index: ``norm`` and ``scaled``, the root mean square over the batch of a sample's norm before and
            after scaling, and ``gate``, their ratio.
        """
        record: dict[int, dict[str, float]] = {}
        self.scaling.record = record
        try:
            yield record
        finally:
            self.scaling.record = None


def attach(
    model: nn.Module,
    mode: Mode | Callable[[int, int], float] = "cs",
    *,
    kappa: float = 0.7,
    sites: Collection[int] | None = None,
    mutable: bool = False,
    allow_gt1: bool = False,
    reduction: int = 16,
    gate_init: float | None = None,
    tokens: int | None = None,
    example_inputs: Any = None,
) -> Handle:
    """Scale the long skips of a model in place, by hooks; its classes, weights and keys stay.

    Attach before the optimizer is built: it must see the parameters of the learnable modes, and this cannot be checked.
    Residuals that a ControlNet adds to the skips are scaled with them, because they are added before they arrive.

    Args:
        model: A model that `find_skips` knows.
        mode: ``"cs"``: κ^(i-1). ``"sqrt2"``: 1/√2. ``"linear"``: from 1 to κ. ``"ls"``: the authors' gate a token, for
            sequences. ``"ls_scalar"``: a gate a sample, for maps (ours). ``"ls_static"``: one learnable number a site,
            which starts at κ^(i-1) (ours). Or a function (i, N) -> κ_i.
        kappa: κ in (0, 1], of ``"cs"``, ``"linear"`` and ``"ls_static"``.
        sites: Indices to scale; the others keep 1. None scales all.
        mutable: Keep κ in a tensor, so that `Handle.set_kappa` does not make a compiled model compile again.
        allow_gt1: Let κ exceed 1.
        reduction: r of ``"ls"``.
        gate_init: Let the gates of ``"ls"`` and ``"ls_scalar"`` begin as this constant in (0, 1); None keeps torch's
            initialisation, near 0.5.
        tokens: Sequence length of ``"ls"``, where neither the model nor ``example_inputs`` tell it.
        example_inputs: Inputs for one run, which numbers the skips by what arrives; see `find_skips`.

    Returns:
        The handle.

    Raises:
        UnsupportedModelError: No skips are known.
        ValueError: An argument is out of range, the mode is unknown, or something is attached already.
        TypeError: ``kappa`` is no number.

    Example:
        >>> from scalelong.nn import UViT
        >>> handle = attach(UViT(8, 2, 1, embed_dim=32, depth=6, num_heads=2), "cs", kappa=0.5)
        >>> handle.kappas
        (1.0, 0.5, 0.25)

    Reference:
        arXiv 2310.13545.
    """
    if not callable(mode) and mode not in get_args(Mode):
        raise ValueError(
            f"mode is {mode!r}; it must be one of {', '.join(get_args(Mode))}, or a function (i, N) -> kappa"
        )
    if attached(model) is not None:
        raise ValueError("the skips of this model are scaled already: call detach(model) first, or set_kappa")
    if isinstance(model, UViT) and model.scaling is not None:
        raise ValueError(f"this UViT scales its skips itself (scaling={model.scaling!r}): build it with scaling=None")
    check_kappa(kappa, allow_gt1=allow_gt1)
    found = find_skips(model, example_inputs)
    active = _active(sites, len(found))
    config: dict[str, Any] = {
        "mode": "function" if callable(mode) else mode,
        "kappa": float(kappa),
        "sites": None if sites is None else sorted(active),
        "mutable": mutable,
        "allow_gt1": allow_gt1,
        "reduction": reduction,
        "gate_init": gate_init,
        "tokens": tokens,
        "count": len(found),
    }
    scale = _scale(model, mode, found, config)
    if isinstance(scale, ConstantScale):
        config["values"] = list(scale.values)
    scaling = Scaling(scale, found, config, active)
    insert(model, scaling.train(model.training))
    _note(model, config)
    return Handle(model, scaling)


def attached(model: nn.Module) -> Handle | None:
    """Find the scaling of a model, or None.

    Example:
        >>> from scalelong.nn import UViT
        >>> attached(UViT(8, 2, 1, embed_dim=32, depth=4, num_heads=2)) is None
        True
    """
    scaling = model._modules.get("scalelong")
    return Handle(model, scaling) if isinstance(scaling, Scaling) else None


def detach(model: nn.Module) -> None:
    """Take the scaling of a model out; the model is what it was.

    Raises:
        ValueError: Nothing is attached.

    Example:
        >>> from scalelong.nn import UViT
        >>> net = UViT(8, 2, 1, embed_dim=32, depth=4, num_heads=2)
        >>> handle = attach(net, "sqrt2")
        >>> detach(net)
        >>> attached(net) is None
        True
    """
    if attached(model) is None:
        raise ValueError(f"nothing is attached to this {type(model).__name__}")
    remove(model)
    _note(model, None)


def _active(sites: Collection[int] | None, count: int) -> frozenset[int]:
    everything = frozenset(range(1, count + 1))
    if sites is None:
        return everything
    if not set(sites) <= everything or not sites:
        raise ValueError(f"sites is {sorted(sites)}; it must name some of the sites 1 to {count} (1 is the shallowest)")
    return frozenset(sites)


def _scale(
    model: nn.Module, mode: Mode | Callable[[int, int], float], sites: list[SkipSite], config: dict[str, Any]
) -> nn.Module:
    count, kappa, gt1 = len(sites), config["kappa"], config["allow_gt1"]
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    factory: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    if mode in ("ls", "ls_scalar"):
        gate = _token_gate(sites, config, factory) if mode == "ls" else LSScalar(count, **factory)
        if config["gate_init"] is not None:
            start_gate(gate, config["gate_init"])
        return gate
    if config["gate_init"] is not None:
        raise ValueError(f"gate_init belongs to 'ls' and 'ls_scalar', not to {config['mode']!r}")
    if mode == "ls_static":
        return LSStatic(cs_kappas(count, kappa, allow_gt1=gt1), **factory)
    if callable(mode):
        values = tuple(check_kappa(mode(index, count), allow_gt1=gt1) for index in range(1, count + 1))
    elif mode == "sqrt2":
        values = sqrt2_kappas(count)
    else:
        values = (cs_kappas if mode == "cs" else linear_kappas)(count, kappa, allow_gt1=gt1)
    return ConstantScale(values, mutable=config["mutable"], device=like.device)


def _token_gate(sites: list[SkipSite], config: dict[str, Any], factory: dict[str, Any]) -> LSToken:
    if not all(site.sequence for site in sites):
        raise ValueError("'ls' is a gate a token and this model's skips are feature maps: use 'ls_scalar'")
    tokens = sites[0].tokens if config["tokens"] is None else config["tokens"]
    if tokens is None:
        raise ValueError("'ls' must know the number of tokens: give tokens, or example_inputs of your resolution")
    config["tokens"] = tokens
    return LSToken(tokens, reduction=config["reduction"], **factory)


def _note(model: Any, config: dict[str, Any] | None) -> None:
    """Write the scaling into the config of a diffusers model, so that what it saves says it was scaled."""
    if not hasattr(model, "register_to_config"):
        return
    if config is not None:
        model.register_to_config(**{CONFIG_KEY: dict(config)})
    else:
        there = model._internal_dict
        model._internal_dict = type(there)({key: there[key] for key in there if key != CONFIG_KEY})


__all__ = ["Handle", "UnsupportedModelError", "attach", "attached", "detach"]
