"""What a training looks like from outside: loss, gradients and features over its steps, and how much they swing."""

import math
from typing import Any

import torch
from sail_core.runs import Run
from torch import Tensor, nn

from ._diagnose import _tensor
from ._sites import find_skips


class StabilityLogger:
    """Log loss, gradient norm and the norm of the last decoder feature of a training.

    Call it after ``backward`` and before the gradients are cleared. Between the logged steps it costs one comparison.

    Args:
        model: A model that `find_skips` knows, scaled or not, not yet compiled.
        every: Steps between rows.
        run: A run directory that receives the rows in its ``metrics.jsonl``; None keeps them in ``rows`` only.

    Attributes:
        rows: ``step``, ``loss``, ``gradient_norm`` (before clipping, if it is called before it) and ``feature_norm``,
            root mean square over the samples.

    Raises:
        UnsupportedModelError: The skips of the model are not known.
        ValueError: ``every`` is below 1.

    Example:
        >>> import torch
        >>> from scalelong.nn import UViT
        >>> net = UViT(8, 2, 1, embed_dim=32, depth=4, num_heads=2, scaling="cs")
        >>> logger = StabilityLogger(net, every=2)
        >>> for step in range(1, 5):
        ...     loss = net(torch.randn(2, 1, 8, 8), torch.tensor([1, 2])).square().mean()
        ...     loss.backward()
        ...     logger(step, loss)
        >>> [row["step"] for row in logger.rows], sorted(logger.summary())
        ([2, 4], ['gradient_p99', 'gradient_spike', 'last_feature', 'oscillation'])
    """

    def __init__(self, model: nn.Module, *, every: int = 10, run: Run | None = None) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every is {every!r}; it must be a number of steps of at least 1")
        self.model, self.every, self.run = model, every, run
        self.rows: list[dict[str, float]] = []
        self._feature: Tensor | None = None
        last = find_skips(model)[0]
        self._handle = model.get_submodule(last.module).register_forward_hook(self._note)

    def _note(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        self._feature = _tensor(out).detach()

    def __call__(self, step: int, loss: Tensor | float) -> None:
        """Log a step if it is its turn."""
        if step % self.every:
            return
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        squares = [grad.detach().float().square().sum() for grad in grads]
        feature = self._feature
        row: dict[str, float] = {
            "loss": loss.detach().item() if isinstance(loss, Tensor) else float(loss),
            "gradient_norm": math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0,
            "feature_norm": math.nan if feature is None else (feature.float().norm() / len(feature) ** 0.5).item(),
        }
        self.rows.append({"step": step, **row})
        if self.run is not None:
            self.run.log(step, **row)

    def summary(self) -> dict[str, float]:
        """Four numbers of the rows so far.

        Returns:
            ``oscillation``: standard deviation of the loss around its least-squares line, over its mean;
            ``gradient_p99`` and ``gradient_spike``: 99th percentile, and largest over median, of the gradient norm;
            ``last_feature``: the last feature norm.

        Raises:
            ValueError: There are fewer than two rows.
        """
        if len(self.rows) < 2:
            raise ValueError(f"a summary needs at least 2 rows, {len(self.rows)} were logged")
        gradients = torch.tensor([row["gradient_norm"] for row in self.rows], dtype=torch.float64)
        return {
            "oscillation": oscillation([row["loss"] for row in self.rows]),
            "gradient_p99": gradients.quantile(0.99).item(),
            "gradient_spike": (gradients.max() / gradients.median()).item(),
            "last_feature": self.rows[-1]["feature_norm"],
        }

    def close(self) -> None:
        """Take the hook out; the rows stay."""
        self._handle.remove()


def oscillation(losses: list[float]) -> float:
    """Standard deviation of a series around its least-squares line, over its mean.

    Args:
        losses: At least two values.

    Returns:
        0 for a straight line.

    Example:
        >>> round(oscillation([4.0, 3.0, 2.0, 1.0]), 12), oscillation([1.0, 3.0, 1.0, 3.0]) > 0.3
        (0.0, True)
    """
    y = torch.tensor(losses, dtype=torch.float64)
    t = torch.arange(len(y), dtype=torch.float64)
    t = t - t.mean()
    slope = (t * (y - y.mean())).sum() / t.square().sum()
    rest = y - y.mean() - slope * t
    return (rest.square().mean().sqrt() / y.mean().abs()).item()
