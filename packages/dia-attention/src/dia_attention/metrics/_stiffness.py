"""How stiff the discrete dynamics x_{t+1} = x_t + f_t(x_t) of a residual network are, block by block.

Three measures of our own, on any trajectory and on a network:

    secant      S_t = |f_t - f_{t-1}| / |x_t - x_{t-1}|     how fast f changes along the trajectory
    step        N_t = |x_{t+1} - x_t| / |x_t|               how far one block moves the state
    spectral    L_t = ||J_{f_t}(x_t)||_2                    how fast f can change in any direction

For f = A x along an eigenvector of A with Euler's step h: S = |λ|, N = h |λ|, and L is A's largest singular value.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ._trace import BlockRecord, quiet_trace, trace

Measure = Literal["secant", "step", "spectral"]
_EPS = 1e-12


@dataclass(frozen=True)
class StiffnessCurve:
    """One measure over the depth of a network.

    Attributes:
        measure: `"secant"`, `"step"` or `"spectral"`.
        paths: The blocks, in order.
        mean: `(L,)`, the mean over samples; NaN where the measure is not defined.
        std: `(L,)`, the standard deviation over samples.
    """

    measure: Measure
    paths: tuple[str, ...]
    mean: Tensor
    std: Tensor

    @property
    def total_variation(self) -> float:
        """Sum of the absolute changes from block to block, over the blocks where the measure is defined."""
        return self._defined().diff().abs().sum().item()

    @property
    def max_over_min(self) -> float:
        """Largest over smallest mean."""
        defined = self._defined()
        return (defined.max() / defined.min()).item()

    def _defined(self) -> Tensor:
        return self.mean[~self.mean.isnan()]


def secant_index(x: Tensor, f: Tensor) -> Tensor:
    """``S_t = |f_t - f_{t-1}| / |x_t - x_{t-1}|`` along trajectories.

    Args:
        x: States `(T, N, ...)`.
        f: The right-hand side at these states, of the same shape.

    Returns:
        `(T - 1, N)`, not negative.

    Raises:
        ValueError: The shapes differ or T < 2.

    Example:
        >>> x = torch.tensor([[[1.0]], [[2.0]], [[4.0]]])
        >>> secant_index(x, -3 * x).flatten()
        tensor([3., 3.])
    """
    if x.shape != f.shape or x.ndim < 2 or len(x) < 2:
        raise ValueError(
            f"expected states and right-hand sides (T >= 2, N, ...), got {tuple(x.shape)}, {tuple(f.shape)}"
        )
    return _norm(f.diff(dim=0), 2) / (_norm(x.diff(dim=0), 2) + _EPS)


def relative_step(x: Tensor) -> Tensor:
    """``N_t = |x_{t+1} - x_t| / |x_t|`` along trajectories.

    Args:
        x: States `(T, N, ...)`.

    Returns:
        `(T - 1, N)`, not negative.

    Raises:
        ValueError: T < 2.

    Example:
        >>> relative_step(torch.tensor([[[2.0]], [[3.0]]]))
        tensor([[0.5000]])
    """
    if x.ndim < 2 or len(x) < 2:
        raise ValueError(f"expected states (T >= 2, N, ...), got {tuple(x.shape)}")
    return _norm(x.diff(dim=0), 2) / (_norm(x[:-1], 2) + _EPS)


def spectral_norm(f: Callable[[Tensor], Tensor], x: Tensor, *, iterations: int = 20, seed: int = 0) -> Tensor:
    """Largest singular value of the Jacobian of `f` at every sample, by power iteration on J^T J.

    Args:
        f: Treats the samples of a batch independently.
        x: Points `(N, ...)`.
        iterations: Steps of the power iteration; the result is a lower bound that rises with them.
        seed: Draws the first direction.

    Returns:
        `(N,)`, not negative.

    Raises:
        ValueError: `iterations` is below 1.

    Example:
        >>> spectral_norm(lambda x: x @ torch.diag(torch.tensor([3.0, 1.0])), torch.zeros(2, 2)).round()
        tensor([3., 3.])
    """
    if iterations < 1:
        raise ValueError(f"iterations={iterations} must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(x.shape, generator=generator).to(x)
    value, pull, *_ = torch.func.vjp(f, x)
    # pull(u) = J^T u is linear in u, so that its own derivative pulls a direction v to J v
    _, push, *_ = torch.func.vjp(lambda u: pull(u)[0], torch.zeros_like(value))
    norm = x.new_zeros(len(x))
    for _ in range(iterations):
        direction = direction / (_spread(_norm(direction, 1), x) + _EPS)
        (pushed,) = push(direction)
        norm = _norm(pushed, 1)
        (direction,) = pull(pushed)
    return norm.detach()


def stiffness_curve(
    model: nn.Module, batches: Iterable[Tensor], *, measure: Measure = "secant", iterations: int = 20
) -> StiffnessCurve:
    """One measure of stiffness for every residual block of a network, mean and standard deviation over images.

    x_t is the skip of block t (its input, or the projection of it), f_t the branch with its gate. `"secant"` compares
    a block with the one before in the same stage and is NaN for the first of a stage and for blocks without skip;
    `"step"` compares the block's output with its skip; `"spectral"` is a derivative at the block's input.

    Args:
        model: A network in eval mode whose blocks `attach` knows, plain or attached.
        batches: Inputs of the model.
        measure: `"secant"`, `"step"` or `"spectral"`.
        iterations: Of the power iteration of `"spectral"`.

    Returns:
        The curve.

    Raises:
        ValueError: The measure is unknown, there are no batches, the model is in training mode or has no residual
            stage.

    Example:
        >>> from dia_attention import cifar_resnet
        >>> curve = stiffness_curve(cifar_resnet(20).eval(), [torch.randn(2, 3, 8, 8)])
        >>> curve.paths[:2], curve.mean.isnan().tolist()
        (('layer1.0', 'layer1.1'), [True, False, True, False, True, False])

    References:
        Z. Huang et al., Understanding Self-attention Mechanism via Dynamical System Perspective, ICCV 2023,
        arXiv:2308.09939 (stiffness of residual networks; the three measures are written down here).
    """
    if measure not in ("secant", "step", "spectral"):
        raise ValueError(f"measure={measure!r} must be 'secant', 'step' or 'spectral'")
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        records = trace(model, batch) if measure == "spectral" else quiet_trace(model, batch)
        for before, record in zip([None, *records[:-1]], records, strict=True):
            values = _measure(measure, before, record, iterations).detach().double().cpu()
            found.setdefault(record.path, []).append(values)
    if not found:
        raise ValueError("no batches to measure the stiffness on")
    joined = [torch.cat(values) for values in found.values()]
    return StiffnessCurve(
        measure,
        tuple(found),
        torch.stack([values.mean() for values in joined]),
        torch.stack([values.std(correction=0) for values in joined]),
    )


def _measure(measure: Measure, before: BlockRecord | None, record: BlockRecord, iterations: int) -> Tensor:
    undefined = torch.full((len(record.x),), torch.nan)
    if measure == "spectral":
        return spectral_norm(record.function, record.x.detach(), iterations=iterations)
    if record.skip is None:
        return undefined
    if measure == "step":
        return relative_step(torch.stack([record.skip, record.output]))[0]
    if before is None or before.skip is None or before.path.rpartition(".")[0] != record.path.rpartition(".")[0]:
        return undefined
    if before.skip.shape != record.skip.shape:
        return undefined
    return secant_index(torch.stack([before.skip, record.skip]), torch.stack([before.branch, record.branch]))[0]


def _norm(x: Tensor, start: int) -> Tensor:
    return x.flatten(start).norm(dim=start) if x.ndim > start else x.abs()


def _spread(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1))
