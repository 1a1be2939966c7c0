"""A pipeline from a local folder or from the Hub, without a pickle."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import deprecation_utils

from sur_adapter._local_model import bars_on_terminals_only, model_source

# diffusers 0.42 renamed the argument and warns of the old name
_DTYPE = "dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype"


def load_pipeline(model: str, *, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a pipeline of any class.

    Raises:
        FileNotFoundError: There is no such folder, and if the name could be the Hub's, no such pipeline there.
        ValueError: The folder does not hold a pipeline whole.
    """
    source = model_source(model)
    local = Path(source).is_dir()
    if local and not Path(source, "model_index.json").is_file():
        raise FileNotFoundError(f"the folder {model} holds no model_index.json; give the folder of a pipeline")
    loader: Any = DiffusionPipeline
    options: dict[str, Any] = {_DTYPE: dtype, "use_safetensors": True}
    try:
        with bars_on_terminals_only():
            pipe = loader.from_pretrained(source, **options)
    except OSError as error:
        if local:
            raise ValueError(f"the pipeline {model} cannot be loaded: {error}") from error
        raise FileNotFoundError(
            f"there is no folder {model} here, and the Hub gave no pipeline of that name ({error})"
        ) from error
    return pipe.to(device)
