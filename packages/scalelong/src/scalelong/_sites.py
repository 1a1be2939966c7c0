"""Where the long skips of a model arrive, numbered from the shallowest by what really arrives."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn

Finder = Callable[[nn.Module], "Sequence[SkipSite]"]

_adapters: dict[type[nn.Module], Finder] = {}
_HOSTS = {"diffusers": "diffusers", "segmentation_models_pytorch": "smp", "monai": "monai"}


class UnsupportedModelError(ValueError):
    """The long skips of this model are not known, or do not arrive as its adapter says."""


@dataclass(frozen=True, kw_only=True)
class SkipSite:
    """One long skip where it enters the decoder.

    Attributes:
        index: i, 1 for the shallowest; set by `find_skips`.
        module: Path of the module that takes the skip.
        arg: The parameter of its ``forward`` that carries the skip.
        slot: Place in that parameter when it is a tuple or list, counted from its end (-1 is taken first).
        columns: Channels (start, stop) of the skip when the parameter is the concatenation itself.
        channels: Width of the skip, where the adapter knows it.
        sequence: Whether the skip is a sequence (B, L, D) and not a map (B, C, ...).
        tokens: Length L of the sequence, where it is known.
        consumers: Paths of the layers that multiply the concatenation first.
        inputs: Input channels (start, stop) of those layers that belong to the skip.
        fold: ``"exact"``, ``"approximate"`` or ``"never"``: what `fold` can do with a constant here.
        reason: Why it is not exact.
    """

    index: int = 0
    module: str
    arg: str
    slot: int | None = None
    columns: tuple[int, int] | None = None
    channels: int | None = None
    sequence: bool = False
    tokens: int | None = None
    consumers: tuple[str, ...] = ()
    inputs: tuple[int, int] | None = None
    fold: Literal["exact", "approximate", "never"] = "never"
    reason: str = "the adapter names no layer that takes the skip"

    @property
    def foldable(self) -> bool:
        """Whether a constant goes into the weights exactly."""
        return self.fold == "exact"


def register_adapter(cls: type[nn.Module], finder: Finder) -> None:
    """Tell `find_skips` and `attach` where the skips of a class, and of its subclasses, arrive.

    Args:
        cls: The class of the model.
        finder: Gives the sites of a model in the order of their consumption, deepest first; indices are set later.

    Raises:
        TypeError: ``cls`` is no subclass of ``torch.nn.Module``.

    Example:
        >>> import torch
        >>> from scalelong import SkipSite, find_skips, register_adapter
        >>> class Tiny(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.up = torch.nn.Bilinear(2, 2, 2)
        ...     def forward(self, x):
        ...         return self.up(x.relu(), x)
        >>> register_adapter(Tiny, lambda model: [SkipSite(module="up", arg="input2")])
        >>> [(site.index, site.module) for site in find_skips(Tiny())]
        [(1, 'up')]
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"cls is {cls!r}; it must be a subclass of torch.nn.Module")
    _adapters[cls] = finder


def find_skips(model: nn.Module, example_inputs: Any = None) -> list[SkipSite]:
    """List the long skips of a model, shallowest first.

    Without inputs the adapter's rule decides. With inputs the model runs once, in eval mode and without gradient: the
    skips that really arrive are numbered in the order of their arrival, and a place where None arrives is left out.

    Args:
        model: A model of a known class, see the README, or one with ``input_blocks`` and ``output_blocks`` as
            guided-diffusion, or with ``in_blocks`` and ``out_blocks`` as U-ViT.
        example_inputs: A tensor, a tuple of positional or a mapping of keyword arguments.

    Returns:
        The sites; the last is the deepest.

    Raises:
        UnsupportedModelError: The class is unknown or refused, or no skip was found.

    Example:
        >>> from scalelong.nn import UViT
        >>> sites = find_skips(UViT(8, 2, 1, embed_dim=32, depth=4, num_heads=2))
        >>> [(site.index, site.module, site.foldable) for site in sites]
        [(1, 'out_blocks.1', True), (2, 'out_blocks.0', True)]
    """
    ports = list(_finder(model)(model))
    if example_inputs is not None:
        ports = _arrivals(model, ports, example_inputs)
    if not ports:
        raise UnsupportedModelError(f"no long skip was found in this {type(model).__name__}: {_REMEDY}")
    return [replace(port, index=len(ports) - turn) for turn, port in enumerate(ports)][::-1]


_REMEDY = "register_adapter(type(model), finder) tells scalelong where its skips arrive"


_WRAPPERS = {"OptimizedModule": "_orig_mod", "DistributedDataParallel": "module", "DataParallel": "module"}


def _finder(model: nn.Module) -> Finder:
    if type(model).__name__ in _WRAPPERS:
        name = type(model).__name__
        raise UnsupportedModelError(f"{name} is a wrapper: give the model inside, model.{_WRAPPERS[name]}")
    for base in type(model).__mro__:
        if base in _adapters:
            return _adapters[base]
    for base in type(model).__mro__:
        host = _HOSTS.get(base.__module__.partition(".")[0])
        if host is not None:
            return import_module(f"{__package__}.integrations.{host}").find  # type: ignore[no-any-return]
    from ._structural import find

    return find


def unsupported(model: nn.Module, why: str) -> UnsupportedModelError:
    """The error that refuses a class by name."""
    return UnsupportedModelError(f"{type(model).__name__} is not supported: {why}; {_REMEDY}")


def position(module: nn.Module, name: str) -> int:
    """Place of the parameter ``name`` among the positional arguments of a module's ``forward``."""
    names = list(inspect.signature(module.forward).parameters)
    if name not in names:
        raise UnsupportedModelError(
            f"{type(module).__name__}.forward has no parameter {name!r}, but {names}: {_REMEDY}"
        )
    return names.index(name)


def pick(port: SkipSite, value: Any) -> Tensor | None:
    """The skip of a port in the argument that carries it, or None when nothing arrives."""
    if port.slot is not None and value is not None:
        value = value[port.slot] if len(value) >= -port.slot else None
    if isinstance(value, Tensor) and port.columns is not None:
        value = value[:, slice(*port.columns)]
    return value if isinstance(value, Tensor) and value.shape[1] > 0 else None


def _arrivals(model: nn.Module, ports: list[SkipSite], inputs: Any) -> list[SkipSite]:
    arrived: dict[int, SkipSite] = {}
    by_module: dict[str, list[int]] = {}
    for number, port in enumerate(ports):
        by_module.setdefault(port.module, []).append(number)

    def watch(numbers: list[int], place: int) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for number in numbers:
                port = ports[number]
                value = kwargs[port.arg] if port.arg in kwargs else args[place] if place < len(args) else None
                skip = pick(port, value)
                if skip is not None and number not in arrived:
                    tokens = skip.shape[1] if port.sequence else None
                    width = skip.shape[-1] if tokens else skip.shape[1]
                    arrived[number] = replace(port, channels=width, tokens=tokens or port.tokens)

        return look

    handles = []
    for path, numbers in by_module.items():
        module = model.get_submodule(path)
        look = watch(numbers, position(module, ports[numbers[0]].arg))
        handles.append(module.register_forward_pre_hook(look, with_kwargs=True))
    try:
        with quiet(model):
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(arrived.values())


def call(model: nn.Module, inputs: Any) -> Any:
    """Run a model on a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode, without gradient; afterwards its modes and all generators are as before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
