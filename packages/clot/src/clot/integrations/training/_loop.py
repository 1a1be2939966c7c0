"""The training loop: batches in an order that the seed decides, exact resume, the loss of each kind."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from sail_core.runs import Run, latest, load_state, save_state
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from clot._instructions import Instruction
from clot.integrations.hf._reader import Reader

from ._collate import Collator, Example
from ._loss import row_weights, token_losses
from ._parallel import Group
from ._settings import AITOptions
from ._state import restore, training_state


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        dropped: Instructions left out so far because they are too long.
        losses: Mean loss a token of the last step, ``"all"`` and by kind.
    """

    step: int = 0
    dropped: int = 0
    losses: dict[str, float] = field(default_factory=dict)


class Loop:
    """Train a model on instructions.

    All random numbers of a step (order, dropout) are functions of seed, step and process, so a run that goes on after
    a checkpoint needs no state of generators.

    Args:
        model: The model with its trainable weights, peft's or plain.
        collator: Encodes instructions.
        instructions: The data.
        options: How to train.
        group: The processes.
        run: Takes the metrics, in the main process.
        checkpoints: The folder of checkpoints.
    """

    def __init__(
        self,
        model: Any,
        collator: Collator,
        instructions: Sequence[Instruction],
        options: AITOptions,
        group: Group,
        run: Run | None,
        checkpoints: Path,
    ) -> None:
        bare = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.reader = Reader(bare)
        self.collator = collator
        self.instructions = instructions
        self.options = options
        self.group = group
        self.log = run
        self.checkpoints = checkpoints
        self.kinds: list[str] = sorted({one.kind for one in instructions})
        self.total = options.total(len(instructions))
        self.net = group.wrap(model, unused=bare is model)
        self.trained = [one for one in self.net.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=options.lr, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
        )

    def run(self) -> Progress:
        """Train to the end, from the last checkpoint if there is one."""
        progress = self._resumed()
        if self.log is not None:
            self.log.rewind(progress.step)
        self.net.train()
        hidden = not (self.group.main and sys.stderr.isatty())
        bar = tqdm(total=self.total, initial=progress.step, desc="train", unit="step", disable=hidden)
        devices = [self.group.device] if self.group.device.type == "cuda" else []
        steps = range(progress.step, self.total)
        with ThreadPoolExecutor(1) as ahead, torch.random.fork_rng(devices), bar:
            coming = [ahead.submit(self._share, step) for step in steps[:1]]
            for step in steps:
                share = coming.pop().result()
                if step + 1 < self.total:  # the next batch is encoded while the model works on this one
                    coming.append(ahead.submit(self._share, step + 1))
                self._step(step, share, progress)
                bar.update()
                if progress.step % self.options.save_every == 0 or progress.step == self.total:
                    self._save(progress)
        self.net.eval()
        return progress

    def _step(self, step: int, share: list[Example | None], progress: Progress) -> None:
        options = self.options
        examples = [one for one in share if one is not None]
        examples.sort(key=lambda one: len(one.prompt.ids) + len(one.target))  # alike in length, little padding
        counts = torch.zeros(3 + 2 * len(self.kinds), dtype=torch.float64)
        counts[0] = sum(len(one.target) for one in examples)
        counts[1] = len(examples)
        counts[2] = len(share) - len(examples)
        tokens, rows, dropped = self.group.sum(counts[:3].to(self.group.device)).tolist()
        torch.manual_seed(_seed(options.seed, step, self.group.rank))
        # every process makes as many passes as the first one, which has the largest share, so that all meet in each
        most = -(-len(self._batch(step)) // self.group.size)
        passes = max(1, -(-most // options.micro_batch))
        for at in range(passes):
            part = examples[at * options.micro_batch : (at + 1) * options.micro_batch] or [self.collator.nothing()]
            with self.group.without_sync(self.net, last=at == passes - 1):
                counts[3:] += self._backward(part, tokens, rows)
        sums = self.group.sum(counts[3:].to(self.group.device)).tolist()
        progress.dropped += int(dropped)
        kinds = zip(self.kinds, sums[::2], sums[1::2], strict=True)
        progress.losses = {"all": sum(sums[::2]) / max(1, tokens)} if tokens else {}
        progress.losses |= {kind: total / count for kind, total, count in kinds if count}
        self._update(step, progress)

    def _backward(self, part: list[Example], tokens: float, rows: float) -> Tensor:
        """Accumulate the gradients of one pass; give sum and count of token losses by kind."""
        prompts, labels = self.collator.batch(part)
        losses = token_losses(self.net, self.reader.inputs(prompts, side="right"), labels).sum(1)
        weights = row_weights(
            [len(one.target) for one in part], weighting=self.options.weighting, tokens=tokens, examples=rows
        )
        # gradients are averaged over the processes, and the loss is over all of them
        factor = torch.tensor(weights, device=losses.device) * self.group.size
        self.group.backward((losses * factor).sum())
        found = torch.zeros(2 * len(self.kinds), dtype=torch.float64)
        for one, loss in zip(part, losses.detach().double().tolist(), strict=True):
            if one.target:
                found[2 * self.kinds.index(one.kind)] += loss
                found[2 * self.kinds.index(one.kind) + 1] += len(one.target)
        return found

    def _update(self, step: int, progress: Progress) -> None:
        """Take the optimizer's step, unless something is not finite, and log it."""
        found = torch.nn.utils.clip_grad_norm_(self.trained, self.options.clip)
        norm = float(found.full_tensor() if hasattr(found, "full_tensor") else found)
        loss = progress.losses.get("all", 0.0)
        if not (torch.isfinite(torch.tensor([loss, norm])).all()):
            names = ", ".join(self.instructions[at].id for at in self._batch(step)[:8])
            raise ValueError(
                f"step {step + 1}: the loss is {loss} and the norm of the gradient {norm}; the batch begins with the "
                f"instructions {names}. The last checkpoint is from before: lower the learning rate, use a wider dtype "
                "or mend these instructions"
            )
        rate = self.options.rate(step=step, total=self.total)
        for one in self.optimizer.param_groups:
            one["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        progress.step = step + 1
        if self.log is not None:
            parts = {f"loss_{kind}": value for kind, value in progress.losses.items() if kind != "all"}
            self.log.log(step + 1, loss=loss, **parts, lr=rate, gradient_norm=norm, dropped=progress.dropped)

    def _batch(self, step: int) -> list[int]:
        """Positions of the instructions of a step, over all processes."""
        epoch, at = divmod(step, -(-len(self.instructions) // self.options.batch))
        generator = torch.Generator().manual_seed(_seed(self.options.seed, epoch, -1))
        order = torch.randperm(len(self.instructions), generator=generator)
        return order[at * self.options.batch : (at + 1) * self.options.batch].tolist()

    def _share(self, step: int) -> list[Example | None]:
        """Encode what this process does of a step."""
        mine = self._batch(step)[self.group.rank :: self.group.size]
        return [self.collator.example(self.instructions[at]) for at in mine]

    def _resumed(self) -> Progress:
        checkpoint = latest(self.checkpoints)
        if checkpoint is None:
            return Progress()
        state = load_state(checkpoint)
        restore(self.net, self.optimizer, state)
        return Progress(**state["progress"])

    def _save(self, progress: Progress) -> None:
        state = training_state(self.net, self.optimizer)
        if self.group.main:
            stored = {"step": progress.step, "dropped": progress.dropped, "losses": progress.losses}
            save_state(self.checkpoints, {**state, "progress": stored}, step=progress.step)
        self.group.wait()


def _seed(*numbers: int) -> int:
    return int.from_bytes(blake2b(repr(numbers).encode(), digest_size=4).digest(), "big")
