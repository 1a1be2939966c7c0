"""The settings of a training run."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AITOptions:
    """How to train. The defaults are the paper's for Qwen-VL; what it does not give is marked (ours).

    lr(t) = lr * t / warmup steps in the warmup, then lr * (1 + cos(pi * progress)) / 2

    Attributes:
        epochs: Passes over the instructions (ours).
        steps: Number of optimizer steps; None for the whole of ``epochs``.
        batch: Instructions in one optimizer step, over all processes.
        micro_batch: Instructions in one forward pass of one process; changes memory and speed, and rounding only.
        lr: Highest learning rate.
        betas: Of AdamW.
        eps: Of AdamW.
        weight_decay: Of AdamW.
        warmup: Share of the steps in which the learning rate rises from 0, in [0, 1) (ours).
        schedule: ``"cosine"`` down to 0, or ``"constant"``, after the warmup (ours).
        clip: Largest norm of the gradient (ours).
        weighting: ``"token"`` counts every token of a batch alike; ``"example"`` every instruction, so that an answer
            of one letter weighs as much as a sentence (ours).
        seed: Seed of the adapter's weights, of the order and of dropout.
        save_every: Steps between checkpoints.
        parallel: What ``torchrun`` with several processes does: ``"ddp"`` copies the model, ``"fsdp2"`` shards it.
        recompute: Recompute activations in the backward pass to save memory.

    Example:
        >>> options = AITOptions(lr=0.8, warmup=0.5)
        >>> [round(options.rate(step=step, total=8), 2) for step in range(8)]
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.68, 0.4, 0.12]
    """

    epochs: int = 1
    steps: int | None = None
    batch: int = 64
    micro_batch: int = 8
    lr: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    warmup: float = 0.03
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    weighting: Literal["token", "example"] = "token"
    seed: int = 0
    save_every: int = 200
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    recompute: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "micro_batch", "save_every", "lr", "clip", "eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1, or None")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; expected a share of the steps in [0, 1)")
        for name, words in (("schedule", ("cosine", "constant")), ("weighting", ("token", "example"))):
            if getattr(self, name) not in words:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {words[0]!r} or {words[1]!r}")
        if self.parallel not in ("ddp", "fsdp2"):
            raise ValueError(f"parallel is {self.parallel!r}; expected 'ddp' or 'fsdp2'")

    def total(self, instructions: int) -> int:
        """Give the number of optimizer steps for so many instructions; the last batch of an epoch may be smaller."""
        return self.epochs * math.ceil(instructions / self.batch) if self.steps is None else self.steps

    def rate(self, *, step: int, total: int) -> float:
        """Give the learning rate of step 0, 1, ..., total - 1."""
        rising = math.ceil(self.warmup * total)
        if step < rising:
            return self.lr * (step + 1) / rising
        if self.schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising))) / 2
