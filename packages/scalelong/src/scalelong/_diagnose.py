"""The quantities of the paper's theorems at a model as it stands, measured, beside what the theorems say of them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ._attach import attached
from ._gain import largest_gain
from ._scalings import ConstantScale, LSStatic
from ._sites import SkipSite, call, find_skips, pick, position, quiet
from ._uvit import UViT

_LISTS = (
    ("in_blocks", "mid_block", "out_blocks"),
    ("down_blocks", "mid_block", "up_blocks"),
    ("input_blocks", "middle_block", "output_blocks"),
)


@dataclass(frozen=True)
class SiteNorms:
    """One skip, as it was seen.

    Attributes:
        index: i, 1 for the shallowest.
        kappa: κ_i, or the root mean square of the gate where it depends on the input.
        skip: Norm of the skip before scaling, root mean square over the samples.
        feature: Norm of the decoder's feature h_i behind the block that takes the skip.
        rho: ``|h_i|² / (|x_t|² Σ_{j>=i} κ_j²)``, which theorem 1 puts between two constants.
    """

    index: int
    kappa: float
    skip: float
    feature: float
    rho: float


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` measured; ``print`` shows a table, `as_dict` gives it as data.

    Attributes:
        sites: The skips, shallowest first.
        input: Norm of x_t, root mean square over the samples.
        kappa_squares: Σ κ_i².
        loss: Mean square of output minus target.
        gradient: Norm of the loss's gradient by all parameters.
        gradients: The same by block.
        gradient_ratio: ``gradient² / (loss (|x_t|² Σ κ_i²))``; theorem 2 bounds it, up to an additive constant.
        gain: Largest ``|f(x + d) - f(x)| / |d|`` for small d, by power iteration.
        block_gain: M0, the largest such gain of a block, or None when the model's blocks are not known.
        bound: ``Σ κ_i M0^i``, what theorem 3 says of the gain without its additive constant c0, or None.
    """

    sites: tuple[SiteNorms, ...]
    input: float
    kappa_squares: float
    loss: float
    gradient: float
    gradients: dict[str, float]
    gradient_ratio: float
    gain: float
    block_gain: float | None
    bound: float | None

    def as_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists and numbers."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{'i':>3} {'kappa':>8} {'|skip|':>10} {'|h|':>10} {'rho':>10}"]
        lines += [f"{s.index:>3} {s.kappa:>8.4f} {s.skip:>10.4g} {s.feature:>10.4g} {s.rho:>10.4g}" for s in self.sites]
        bound = "unknown" if self.bound is None else f"{self.bound:.4g} with M0 = {self.block_gain:.4g} and c0 = 0"
        lines.append(
            f"loss {self.loss:.4g}, gradient norm {self.gradient:.4g}, ratio of theorem 2 {self.gradient_ratio:.4g}"
        )
        lines.append(f"input gain {self.gain:.4g}, bound of theorem 3 {bound}")
        return "\n".join(lines)


def diagnose(
    model: nn.Module, batch: Any, *, target: Tensor | None = None, iterations: int = 20, seed: int = 0
) -> Diagnosis:
    """Measure norms of skips and features, gradients and input gain of a model, in eval mode, and leave it as it was.

    The theorems speak of networks at initialisation without normalisation behind the concatenation; for other models
    their expressions are printed beside the measurement, not claimed.

    Args:
        model: A model that `find_skips` knows, scaled or not.
        batch: A tensor, a tuple of positional or a mapping of keyword arguments. The first tensor of numbers with a
            fractional part is x_t.
        target: What the output is compared with; None draws standard normal noise of its shape.
        iterations: Of the power iterations.
        seed: Draws the noise and the first direction.

    Returns:
        The measurements.

    Raises:
        UnsupportedModelError: The skips of the model are not known.
        ValueError: The batch holds no tensor with floating numbers.

    Example:
        >>> import torch
        >>> from scalelong.nn import UViT
        >>> net = UViT(8, 2, 1, embed_dim=32, depth=4, num_heads=2, scaling="cs", kappa=0.5)
        >>> found = diagnose(net, (torch.randn(2, 1, 8, 8), torch.tensor([1, 500])), iterations=2)
        >>> [site.kappa for site in found.sites], found.kappa_squares
        ([1.0, 0.5], 1.25)

    Reference:
        arXiv 2310.13545.
    """
    key, x = _noisy(batch)
    handle = attached(model)
    sites = list(handle.sites) if handle else find_skips(model, None)
    with quiet(model):
        seen = _Watch(model, sites)
        with seen:
            output = _tensor(call(model, batch))
    kappas = _kappas(model, seen, sites)
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed)).to(output)
    loss, gradients = _gradients(model, batch, noise if target is None else target)
    total = math.sqrt(sum(value**2 for value in gradients.values()))
    squares = sum(kappa**2 for kappa in kappas)
    norm = _norm(x)
    with quiet(model):
        gain = largest_gain(lambda v: _tensor(call(model, _with(batch, key, v))), x, iterations=iterations, seed=seed)
        block_gain = _block_gain(model, batch, iterations, seed)
    rows = []
    for at, site in enumerate(sites):
        deeper = sum(kappa**2 for kappa in kappas[at:])
        feature = seen.features[site.index]
        rho = feature**2 / (norm**2 * deeper)
        rows.append(SiteNorms(site.index, kappas[at], seen.skips[site.index], feature, rho))
    bound = None
    if block_gain is not None:
        bound = sum(kappa * block_gain**i for i, kappa in enumerate(kappas, start=1))
    ratio = total**2 / (loss * norm**2 * squares) if loss > 0 else math.inf
    return Diagnosis(tuple(rows), norm, squares, loss, total, gradients, ratio, gain, block_gain, bound)


class _Watch:
    """Hooks that note the norm of every skip before scaling, what its gate made of it, and of the feature behind it."""

    def __init__(self, model: nn.Module, sites: list[SkipSite]) -> None:
        self.model, self.sites = model, sites
        self.skips: dict[int, float] = {}
        self.features: dict[int, float] = {}
        self.gates: dict[int, float] = {}

    def __enter__(self) -> None:
        self._handles = []
        for site in self.sites:
            module = self.model.get_submodule(site.module)
            before = self._look(site, position(module, site.arg))
            self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True, prepend=True))
            inner = site.module if site.slot is None or not site.consumers else site.consumers[0].rpartition(".")[0]
            self._handles.append(self.model.get_submodule(inner).register_forward_hook(self._behind(site)))
        handle = attached(self.model)
        self._monitor = handle.monitor() if handle else None
        self._record = self._monitor.__enter__() if self._monitor else {}

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        if self._monitor:
            self._monitor.__exit__(*error)
            self.gates |= {index: row["gate"] for index, row in self._record.items()}

    def _look(self, site: SkipSite, place: int) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            skip = pick(site, kwargs[site.arg] if site.arg in kwargs else args[place])
            if skip is None:
                return
            self.skips[site.index] = _norm(skip)
            if isinstance(self.model, UViT) and len(args) > 2:  # its own scaling comes as the third argument
                self.gates[site.index] = _norm(skip * args[2]) / self.skips[site.index]

        return look

    def _behind(self, site: SkipSite) -> Any:
        def note(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            self.features[site.index] = _norm(_tensor(out))

        return note


def _kappas(model: nn.Module, seen: _Watch, sites: list[SkipSite]) -> list[float]:
    handle = attached(model)
    if handle and isinstance(handle.scaling.scale, ConstantScale | LSStatic):
        return list(handle.kappas)
    if isinstance(model, UViT) and handle is None and model.se is None:
        return list(model.kappas)
    return [seen.gates.get(site.index, 1.0) for site in sites]


def _gradients(model: nn.Module, batch: Any, target: Tensor) -> tuple[float, dict[str, float]]:
    """The loss, and the gradient norm by block; the gradients that the parameters hold are not touched."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.enable_grad():
            loss = (_tensor(call(model, batch)).float() - target.float()).square().mean()
            grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    finally:
        for module, mode in modes.items():
            module.training = mode
    squares: dict[str, float] = {}
    for (name, _), grad in zip(named, grads, strict=True):
        parts = name.split(".")
        block = ".".join(parts[:2]) if len(parts) > 2 and parts[1].isdigit() else parts[0]
        squares[block] = squares.get(block, 0.0) + (0.0 if grad is None else grad.float().square().sum().item())
    return loss.item(), {block: math.sqrt(value) for block, value in squares.items()}


def _block_gain(model: nn.Module, batch: Any, iterations: int, seed: int) -> float | None:
    """M0: the largest gain of a block by its first tensor, the others held."""
    names = next((names for names in _LISTS if hasattr(model, names[0]) and hasattr(model, names[2])), None)
    if names is None:
        return None
    blocks: list[nn.Module] = []
    for name in names:
        part = getattr(model, name, None)
        blocks += list(part) if isinstance(part, nn.ModuleList) else [part] if isinstance(part, nn.Module) else []
    calls: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    handles = []
    for block in blocks:

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[module] = (args, kwargs)

        handles.append(block.register_forward_pre_hook(note, with_kwargs=True, prepend=True))
    try:
        call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    gains = []
    for block, (args, kwargs) in calls.items():
        merged: Any = (list(args), kwargs)
        gains.append(_one_gain(block, merged, iterations, seed))
    return max(gains, default=None)


def _one_gain(block: nn.Module, arguments: tuple[list[Any], dict[str, Any]], iterations: int, seed: int) -> float:
    args, kwargs = arguments
    if args:
        return largest_gain(lambda v: _tensor(block(v, *args[1:], **kwargs)), args[0], iterations=iterations, seed=seed)
    name, first = next((key, value) for key, value in kwargs.items() if isinstance(value, Tensor))
    return largest_gain(lambda v: _tensor(block(**kwargs | {name: v})), first, iterations=iterations, seed=seed)


def _noisy(batch: Any) -> tuple[Any, Tensor]:
    """Where x_t is in the batch, and x_t."""
    items = (
        batch.items()
        if isinstance(batch, Mapping)
        else enumerate(batch if isinstance(batch, tuple | list) else [batch])
    )
    for key, value in items:
        if isinstance(value, Tensor) and value.is_floating_point():
            return key, value
    raise ValueError("the batch holds no tensor with floating numbers, so there is no x_t")


def _with(batch: Any, key: Any, x: Tensor) -> Any:
    if isinstance(batch, Mapping):
        return {**batch, key: x}
    if isinstance(batch, tuple | list):
        return tuple(x if at == key else value for at, value in enumerate(batch))
    return x


def _tensor(out: Any) -> Tensor:
    out = getattr(out, "sample", out)
    return out[0] if isinstance(out, tuple | list) else out  # type: ignore[no-any-return]


def _norm(x: Tensor) -> float:
    """Root mean square over the samples of the norm of a sample."""
    return float(x.detach().double().norm()) / math.sqrt(len(x))
