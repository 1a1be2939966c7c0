"""Stage 1: associable instruction tuning.

References:
    Zhong et al., Let's Think Outside the Box: Exploring Leap-of-Thought in Large Language Models with Creative Humor
    Generation, 2024, arXiv:2312.02439.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from sail_core.runs import Run, latest

from clot._instructions import Instruction
from clot.integrations.hf._identity import base_identity
from clot.integrations.hf._load import load_adapter, load_model

from ._collate import Collator
from ._loop import Loop
from ._lora import LoRA, attach, save_adapter, save_whole
from ._parallel import Group
from ._settings import AITOptions
from ._state import trained_weights


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train_ait` made.

    Attributes:
        folder: The adapter in peft's layout, or, where all weights were trained, the model with its processor.
        steps: Optimizer steps done.
        losses: Mean loss a token of the last step, ``"all"`` and by kind.
        dropped: Instructions left out because they are longer than the context.
    """

    folder: Path
    steps: int
    losses: dict[str, float] = field(default_factory=dict)
    dropped: int = 0


def train_ait(
    model: str | os.PathLike[str],
    instructions: Sequence[Instruction],
    *,
    out: str | os.PathLike[str],
    options: AITOptions | None = None,
    lora: LoRA | None = LoRA(),  # noqa: B008  frozen
    adapter: str | os.PathLike[str] | None = None,
    pictures: Mapping[str, bytes] | None = None,
    dtype: str | torch.dtype = "auto",
    device: str = "auto",
    resume: bool = True,
) -> Trained:
    """Teach a model to answer instructions, and save the adapter that was learnt.

    loss = mean over the tokens (or over the instructions) of a batch of -log p(token | prompt, answer so far)

    The loss is on the answer and its end token. Started with several processes, such as ``torchrun --nproc-per-node=8
    -m clot.cli train ...`` or ``accelerate launch``, each takes its share of every batch, and the gradients are those
    of one process but for rounding; ``parallel="fsdp2"`` also divides weights, gradients and the optimizer's state,
    after each process has loaded the whole model once. A checkpoint is written every
    ``save_every`` steps; a run that is started again goes on from the last one and ends with the same bits on a CPU.
    ``metrics.jsonl`` has a row for each step: ``loss`` and the loss of each kind, as means over their tokens.

    Args:
        model: A folder, or a name of the hub such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
        instructions: What to learn; the same in all processes.
        out: The run's folder.
        options: How to train.
        lora: The adapter; None trains all weights, the vision tower's too, and saves a whole model.
        adapter: An adapter to go on training; it keeps its own rank and layers, ``lora`` is not read.
        pictures: Encoded pictures by identifier, read when their turn comes, for instructions that hold none.
        dtype: ``"auto"`` for the checkpoint's own, or ``"float32"``, ``"bfloat16"``, ``"float16"``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        resume: Go on with what is in ``out``; False refuses a folder that holds a checkpoint.

    Returns:
        Where the adapter is, and the last losses.

    Raises:
        ValueError: There are no instructions, the folder holds a run with other settings or data, the model or the
            adapter does not load, or the loss is not finite (step and instructions are named; the last checkpoint is
            from before).
        RecordError: A picture does not load, or a target is empty; it names the instruction.

    Example:
        >>> import tempfile
        >>> from clot._backend import Prompt
        >>> from clot._instructions import Instruction
        >>> from clot.integrations.tiny import save_tiny
        >>> one = Instruction("i1", "generate", "T2T", "en", Prompt("Why?"), "Why not?", "r1")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     base = save_tiny(f"{folder}/base")
        ...     done = train_ait(base, [one], out=f"{folder}/ait", options=AITOptions(epochs=2), lora=LoRA(r=2))
        ...     print(done.steps, sorted(path.name for path in done.folder.iterdir()))
        2 ['adapter_config.json', 'adapter_model.safetensors', 'base_identity.json']
    """
    options = options or AITOptions()
    if not instructions:
        raise ValueError("there are no instructions to learn; build some with build_instructions")
    out = Path(out)
    whole = lora is None and adapter is None
    target = out / ("model" if whole else "adapter")
    group = Group(device=device, parallel=options.parallel)
    processor, base = load_model(model, dtype=dtype, device="cpu" if group.device.type == "cpu" else "cuda")
    identity = base_identity(base)  # before the weights are spread over processes
    config = {
        "options": asdict(options),
        "lora": None if lora is None or adapter is not None else asdict(lora),
        "adapter": None if adapter is None else _digest(Path(adapter)),
        "base": blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16).hexdigest(),
        "data": _data_digest(instructions),
        "dtype": str(next(base.parameters()).dtype),
    }
    net = _prepared(base, lora, adapter, options, group)
    run = _claim(out, config, resume=resume, group=group)
    context = getattr(base.config.get_text_config(), "max_position_embeddings", None)
    loop = Loop(
        net,
        Collator(processor, context=context, pictures=pictures),
        instructions,
        options,
        group,
        run,
        out / "checkpoints",
    )
    complete = latest(out / "checkpoints")
    result = loop.run()
    if latest(out / "checkpoints") != complete or not target.exists():
        state = trained_weights(loop.net)
        if group.main:
            if whole:
                save_whole(net, processor, state, target)
            else:
                save_adapter(net, state, identity | {"name": base.name_or_path}, target)
    group.wait()
    return Trained(target, result.step, result.losses, result.dropped)


def _prepared(
    base: Any, lora: LoRA | None, adapter: str | os.PathLike[str] | None, options: AITOptions, group: Group
) -> Any:
    """The model with what is to be trained."""
    if options.recompute:
        start = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        start()
        base.enable_input_require_grads()
    if adapter is not None:
        return load_adapter(base, adapter, trainable=True)
    if lora is not None:
        return attach(base, lora, seed=options.seed, full_precision=not group.shards)
    return base.requires_grad_(True)


def _claim(out: Path, config: dict[str, Any], *, resume: bool, group: Group) -> Run | None:
    """Take the folder for this run; the main process alone writes there."""
    if not resume and latest(out / "checkpoints") is not None:
        raise ValueError(f"{out} holds a run already; resume it, delete it, or give another folder")
    run = Run(out, config=config) if group.main else None
    group.wait()
    return run


def _data_digest(instructions: Sequence[Instruction]) -> str:
    found = blake2b(digest_size=16)
    for one in instructions:
        picture = blake2b(one.prompt.image or b"", digest_size=16).hexdigest()
        row = [one.id, one.kind, one.prompt.text, one.image, picture, one.target]
        found.update(json.dumps(row).encode() + b"\n")
    return found.hexdigest()


def _digest(adapter: Path) -> str:
    try:
        return blake2b((adapter / "adapter_model.safetensors").read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise ValueError(f"{adapter} holds no adapter: {error}; give the folder that training wrote") from error
