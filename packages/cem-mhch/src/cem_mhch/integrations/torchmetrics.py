"""The metrics as torchmetrics classes: `update(preds, target)` with `(B, T)` tensors, target -1 on padded turns."""

from __future__ import annotations

from typing import Any

import torch
from sail_core.extras import needs
from torch import Tensor

from cem_mhch.metrics._golden import check_options

with needs("cem-mhch", "torchmetrics"):
    from torchmetrics import Metric, MetricCollection
    from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision


class HandoffF1(Metric):
    """F1 of handoffs, or the mean of it and that of normal turns, over all turns; the state is four counts.

    Args:
        average: `"handoff"` or `"macro"`.
        threshold: A turn whose probability is at least this is a handoff.

    Raises:
        ValueError: The average is another word.

    Example:
        >>> metric = HandoffF1()
        >>> metric.update(torch.tensor([[0.9, 0.2, 0.3]]), torch.tensor([[1, 1, -1]]))
        >>> round(metric.compute().item(), 4)
        0.6667
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, *, average: str = "handoff", threshold: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        if average not in ("handoff", "macro"):
            raise ValueError(f"average is {average!r}; it must be 'handoff' or 'macro'")
        self.average, self.threshold = average, threshold
        self.add_state("counts", torch.zeros(2, 2, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count the turns of a batch."""
        said, gold, real = _read(preds, target, self.threshold)
        self.counts += torch.bincount(2 * gold[real] + said[real], minlength=4).reshape(2, 2)

    def compute(self) -> Tensor:
        """The F1 so far; 0 where there is nothing to find and nothing found."""
        sizes = self.counts.sum(0) + self.counts.sum(1)
        found = 2 * self.counts.diag() / sizes.clamp(min=1)
        return found[1] if self.average == "handoff" else found.mean()


class GoldenTransfer(Metric):
    """Golden transfer within tolerance, see `metrics.golden_transfer`; the state is a sum and a count.

    A row without a real turn counts as no dialogue.

    Args:
        tolerance: t, an int of at least 1, in turns.
        lamb: In (-1, 1); above 0 it is stricter on predictions that come late.
        threshold: A turn whose probability is at least this is a handoff.
        gold_only: Leave out the dialogues without a gold handoff.

    Example:
        >>> metric = GoldenTransfer(tolerance=1)
        >>> metric.update(torch.tensor([[0.1, 0.2, 0.9]]), torch.tensor([[0, 1, 0]]))
        >>> round(metric.compute().item(), 4)
        0.6065
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    dialogues: Tensor

    def __init__(
        self,
        *,
        tolerance: int = 1,
        lamb: float = 0.0,
        threshold: float = 0.5,
        gold_only: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_options(tolerance, lamb)
        self.tolerance, self.lamb, self.threshold, self.gold_only = tolerance, lamb, threshold, gold_only
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("dialogues", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the dialogues of a batch."""
        said, gold, real = _read(preds, target, self.threshold)
        alarms, wanted = (said == 1) & real, (gold == 1) & real
        turns = torch.arange(real.shape[1], device=real.device, dtype=torch.float64)
        apart = turns[:, None] - turns[None, :]  # predicted minus gold
        near = torch.exp(-(apart**2) / ((1 - self.lamb * apart.sign()) * 2 * (self.tolerance + 1e-7) ** 2))
        best = torch.where(wanted[:, None, :], near, 0.0).amax(2)
        mean = torch.where(alarms, best, 0.0).sum(1) / alarms.sum(1).clamp(min=1)
        value = torch.where(wanted.any(1), mean, (~alarms.any(1)).double())
        counted = wanted.any(1) if self.gold_only else real.any(1)
        self.total += value[counted].sum()
        self.dialogues += counted.sum()

    def compute(self) -> Tensor:
        """The mean over dialogues so far; NaN where there is none."""
        return self.total / self.dialogues


def handoff_metrics(*, threshold: float = 0.5, **options: Any) -> MetricCollection:
    """All of `metrics.handoff_report` but the cost, and the area under precision and recall.

    Args:
        threshold: A turn whose probability is at least this is a handoff.
        options: Of every `torchmetrics.Metric`.

    Returns:
        A collection with the keys `f1 macro_f1 auc pr_auc gt1 gt2 gt3`.
    """
    return MetricCollection(
        {
            "f1": HandoffF1(threshold=threshold, **options),
            "macro_f1": HandoffF1(average="macro", threshold=threshold, **options),
            "auc": BinaryAUROC(ignore_index=-1, **options),
            "pr_auc": BinaryAveragePrecision(ignore_index=-1, **options),
            **{f"gt{t}": GoldenTransfer(tolerance=t, threshold=threshold, **options) for t in (1, 2, 3)},
        },
        compute_groups=False,
    )


def _read(preds: Tensor, target: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions and labels as 0 or 1, and the real turns."""
    if preds.shape != target.shape or preds.ndim != 2:
        raise ValueError(f"preds {tuple(preds.shape)} and target {tuple(target.shape)} must both be (B, T)")
    if not bool(((target >= -1) & (target <= 1)).all()) or target.is_floating_point():
        raise ValueError("target must hold integers: 0, 1, or -1 on padded turns")
    real = target >= 0
    if bool(preds[real].isnan().any()):
        raise ValueError("a prediction of a real turn is NaN")
    return (preds >= threshold).long(), target.long(), real
