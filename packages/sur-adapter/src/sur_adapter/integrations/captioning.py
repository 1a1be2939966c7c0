"""transformers: narrative prompts of images by an image-to-text model, such as BLIP."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from sur_adapter._local_model import bars_on_terminals_only, model_source

__all__ = ["ImageCaptioner"]


class ImageCaptioner:
    """Captions of images, by greedy decoding; for ``prepare_data``.

    Args:
        model: Folder or Hub id of an image-to-text model with safetensors weights.
        max_new_tokens: Longest caption.
        device: Where to compute; None is the CPU.

    Raises:
        FileNotFoundError: ``model`` is a local folder that does not exist.

    Example:
        >>> ImageCaptioner("./no/blip")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no folder ./no/blip (absolute: ...); no hub was asked
    """

    def __init__(
        self, model: str | Path, *, max_new_tokens: int = 30, device: torch.device | str | None = None
    ) -> None:
        source = model_source(model)
        load: Any = AutoProcessor.from_pretrained
        self.processor = load(source)
        with bars_on_terminals_only():
            network: Any = AutoModelForImageTextToText.from_pretrained(source, use_safetensors=True)
        self.network = network.to(device or "cpu").eval()
        self.max_new_tokens = max_new_tokens

    @torch.inference_mode()
    def __call__(self, images: Sequence[Any]) -> list[str]:
        """Caption RGB images; one text each."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.network.device)
        ids = self.network.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        return [text.strip() for text in self.processor.batch_decode(ids, skip_special_tokens=True)]
