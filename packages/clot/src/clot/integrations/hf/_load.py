"""Loading models and adapters, with errors that say what is wrong and how to mend it."""

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sail_core.runs import pick_device

from ._identity import base_identity, difference

IDENTITY = "base_identity.json"  # beside peft's adapter_config.json


@contextmanager
def quiet() -> Iterator[None]:
    """Show the progress bars of transformers on a terminal only, and keep what peft calls of it from warning us."""
    import transformers.utils

    logging: Any = transformers.utils.logging
    was_on = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def load_model(model: str | os.PathLike[str], *, dtype: str | torch.dtype, device: str) -> tuple[Any, Any]:
    """Load a processor and a model from a folder or by a name of the hub; nothing is unpickled, no code is fetched.

    Args:
        model: A folder that ``save_pretrained`` made, or a name such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
        dtype: As `HFBackend.from_pretrained`.
        device: As `HFBackend.from_pretrained`.

    Returns:
        Processor and model, in evaluation mode.

    Raises:
        ValueError: There is no such model, or it is none for pictures and text.
    """
    import transformers

    hf: Any = transformers
    place = pick_device(device)
    name = _located(model)
    try:
        with quiet():
            processor = hf.AutoProcessor.from_pretrained(name)
            loaded = hf.AutoModelForImageTextToText.from_pretrained(name, dtype=_dtype(dtype), use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{name} cannot be loaded as a model for pictures and text: {_line(error)}; "
            "give a folder that save_pretrained made, with its processor, or a name of the hub"
        ) from error
    if not hasattr(processor, "tokenizer"):
        raise ValueError(f"{name} has no processor for pictures and text beside its weights; save the processor there")
    return processor, loaded.to(place).eval()


def load_adapter(model: Any, adapter: str | os.PathLike[str], *, trainable: bool = False) -> Any:
    """Put a LoRA adapter of peft on a model.

    Args:
        model: The base model.
        adapter: A folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
        trainable: Whether the adapter's weights require gradients.

    Returns:
        The peft model.

    Raises:
        ValueError: The folder holds no adapter, or one of another base.
    """
    from oogiri_go.runs import needs

    with needs("sail-clot", "train"):
        from peft import PeftModel
    folder = Path(adapter)
    missing = [one for one in ("adapter_config.json", "adapter_model.safetensors") if not (folder / one).is_file()]
    if missing:
        raise ValueError(f"{folder} holds no adapter: {missing[0]} is missing; give the folder that training wrote")
    _same_base(model, folder)
    try:
        with quiet():
            return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"the adapter in {folder} does not fit this model: {_line(error)}") from error


def _same_base(model: Any, folder: Path) -> None:
    """Compare with what was saved beside the adapter; a foreign adapter has only the name of its base."""
    if (folder / IDENTITY).is_file():
        try:
            stored = json.loads((folder / IDENTITY).read_bytes())
            found = difference(stored, base_identity(model))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder / IDENTITY} cannot be read ({error}): restore it from the training run"
            ) from error
        if found:
            raise ValueError(
                f"the adapter in {folder} was trained on {found}; load it on {stored.get('name') or 'its own base'}"
            )
        return
    base = json.loads((folder / "adapter_config.json").read_bytes()).get("base_model_name_or_path")
    here = model.name_or_path
    if base and here and Path(str(base)).name.lower() != Path(here).name.lower():
        raise ValueError(
            f"the adapter in {folder} names {base} as its base, this model is {here}; load it on its base, or correct "
            "base_model_name_or_path in its adapter_config.json where both are the same weights"
        )


def _located(model: str | os.PathLike[str]) -> str:
    """Tell a folder from a name of the hub before transformers asks the network for it."""
    name = os.fspath(model)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} holds no config.json; give the folder that save_pretrained made")
        return str(path)
    if path.exists() or isinstance(model, os.PathLike) or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ValueError(
            f"there is no model folder {path}; give an existing one, or a name of the hub such as "
            "Qwen/Qwen2.5-VL-7B-Instruct"
        )
    return name


def _dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}; expected 'auto', 'float32', 'bfloat16' or 'float16'")
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
