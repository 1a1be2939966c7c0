"""The command encode-teacher."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sail_core.runs import pick_device

from ._minilm import NAME
from ._surd import Surd
from ._teacher_encode import Pooling, encode_teacher
from ._teacher_import import import_teacher


@dataclass(frozen=True, kw_only=True)
class EncodeTeacherConfig:
    """Encode prompts with a language model into a teacher cache; a killed run goes on where it stopped."""

    prompts: Path
    """SURD.zip or its folder (the narratives), a .txt (one a line) or .json (a list) file, or the authors' .pt."""
    out: Path
    """The cache: a folder, made when missing, continued when not."""
    model: str = "minilm"
    """Folder or Hub id of any transformers model; minilm is the one of the extra of that name."""
    layer: str = "-1"
    """k or k:raw; -1:raw is what the authors read."""
    pooling: Pooling = "mean"
    dtype: Literal["f16", "bf16", "f32"] = "f16"
    """Of the stored vectors."""
    model_dtype: Literal["f16", "bf16", "f32"] = "f32"
    batch_tokens: int = 2048
    """Most tokens of a batch, padding included."""
    max_length: int | None = None
    """Tokens after which a prompt is cut; None is the model's own limit."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


def encode_teacher_command(config: EncodeTeacherConfig) -> None:
    """Encode, and print what was done."""
    if config.prompts.suffix == ".pt":
        if config.model == NAME:
            raise ValueError("say which model made these vectors: --model llama-13b --layer 40:raw, say")
        count = import_teacher(config.prompts, config.out, model=config.model, layer=config.layer)
        print(f"{count} vectors imported into {config.out}")
        return
    done = encode_teacher(
        read_prompts(config.prompts),
        config.out,
        model=config.model,
        layer=config.layer,
        pooling=config.pooling,
        dtype=config.dtype,
        model_dtype=config.model_dtype,
        batch_tokens=config.batch_tokens,
        max_length=config.max_length,
        device=pick_device(config.device),
    )
    cut = f", {done.truncated} of them cut at the model's length" if done.truncated else ""
    print(f"{done.encoded} prompts encoded{cut}, {done.present} were there, in {config.out}")


def read_prompts(source: Path) -> list[str]:
    """Read the prompts that a teacher shall encode.

    Args:
        source: A ``.txt`` file with a prompt a line, a ``.json`` list of prompts, or what `Surd` reads: the narratives.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It holds no prompt.
    """
    if source.suffix not in (".txt", ".json"):
        return [row.narrative for row in Surd(source, images=False).rows]
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    text = source.read_text(encoding="utf-8")
    prompts = json.loads(text) if source.suffix == ".json" else [line for line in text.splitlines() if line.strip()]
    if not isinstance(prompts, list) or not prompts or not all(isinstance(one, str) for one in prompts):
        raise ValueError(f"{source} holds no list of prompts")
    return prompts
