"""Scorers that read pictures with transformers: CLIP score, choice of caption by CLIP, yes/no questions.

References:
    - Radford et al.: Learning Transferable Visual Models From Natural Language Supervision. 2021, arXiv 2103.00020.
    - Hessel et al.: CLIPScore: A Reference-free Evaluation Metric for Image Captioning. 2021, arXiv 2104.08718.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sail_core.extras import needs
from torch import Tensor

from sur_adapter._suite import Item

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Clip", "ClipChoice", "ClipScore", "YesNo"]


class Clip:
    """A CLIPModel from a local folder, for several scorers.

    Args:
        folder: With a CLIPModel, its tokenizer and its image processor.
        device: Where it runs.
        batch_size: Pictures at a time.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: ``batch_size`` is below 1.
        MissingExtra: transformers is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, device: str = "cpu", batch_size: int = 16) -> None:
        with needs("sur-adapter", "diffusers"):
            from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel
        if not (Path(folder) / "config.json").is_file():
            raise FileNotFoundError(f"there is no CLIP model in {folder}; give the folder of a CLIPModel")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        loader: Any = CLIPModel
        self.model = loader.from_pretrained(folder, local_files_only=True).eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        self.device, self.batch_size = device, batch_size

    @torch.inference_mode()
    def cosines(self, images: Sequence["Image"], texts: Sequence[Sequence[str]]) -> list[Tensor]:
        """Give the cosines of each picture with each of its own texts.

        Args:
            images: Pictures.
            texts: For each picture one text or several.

        Returns:
            For each picture a tensor with a value for each of its texts.
        """
        found = []
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            several = texts[part]
            flat = [text for own in several for text in own]
            pixels = self.processor([image.convert("RGB") for image in images[part]], return_tensors="pt")
            limit = self.model.config.text_config.max_position_embeddings
            ids = self.tokenizer(flat, padding=True, truncation=True, max_length=limit, return_tensors="pt")
            out = self.model(
                input_ids=ids["input_ids"].to(self.device),
                attention_mask=ids["attention_mask"].to(self.device),
                pixel_values=pixels["pixel_values"].to(self.device, self.model.dtype),
            )
            picture = torch.nn.functional.normalize(out.image_embeds.float(), dim=-1).cpu()
            text = torch.nn.functional.normalize(out.text_embeds.float(), dim=-1).cpu()
            ends = torch.tensor([len(own) for own in several]).cumsum(0).tolist()
            found += [
                text[end - len(own) : end] @ picture[at]
                for at, (own, end) in enumerate(zip(several, ends, strict=True))
            ]
        return found


class ClipScore:
    """CLIP score: ``max(0, 100 cos(picture, prompt))``; 0 to 100, not right or wrong.

    Args:
        clip: The model.
    """

    name = "clip score"

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def __call__(self, images: Sequence["Image"], items: Sequence[Item]) -> list[float]:
        """Score each picture against its prompt."""
        cosines = self.clip.cosines(images, [[item.prompt] for item in items])
        return [max(0.0, 100 * float(value)) for (value,) in cosines]


class ClipChoice:
    """Right when, of an item's captions, the fitting one has the highest cosine with the picture.

    Args:
        clip: The model.
    """

    name = "clip choice"

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def __call__(self, images: Sequence["Image"], items: Sequence[Item]) -> list[float]:
        """Give 1.0 or 0.0.

        Raises:
            ValueError: An item has no options.
        """
        for item in items:
            if not item.options:
                raise ValueError(f'item {item.id} has no "options"; the clip choice needs captions to choose from')
        cosines = self.clip.cosines(images, [item.options for item in items])
        return [float(int(own.argmax()) == item.answer) for own, item in zip(cosines, items, strict=True)]


class YesNo:
    """Right when a vision-language model answers every question of an item as expected.

    Args:
        model: A local folder with a model for transformers' ``image-text-to-text`` pipeline, or such a pipeline, or
            any callable ``(images=, text=) -> [{"generated_text": ...}]``.
        device: Where a model from a folder runs.
        template: Wraps the question.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The template has no ``{question}``.
        MissingExtra: transformers is not installed.
    """

    name = "yes/no"

    def __init__(
        self,
        model: str | os.PathLike[str] | Callable[..., Any],
        *,
        device: str = "cpu",
        template: str = "Question: {question} Answer yes or no. Answer:",
    ) -> None:
        if "{question}" not in template:
            raise ValueError(f"the template {template!r} lacks {{question}}")
        if callable(model):
            self.pipe: Any = model
        else:
            if not (Path(model) / "config.json").is_file():
                raise FileNotFoundError(f"there is no model in {model}; give the folder of a vision-language model")
            with needs("sur-adapter", "diffusers"):
                from transformers import pipeline
            self.pipe = pipeline("image-text-to-text", model=str(model), device=device)
        self.template = template

    def __call__(self, images: Sequence["Image"], items: Sequence[Item]) -> list[float]:
        """Give 1.0 where all answers are right, else 0.0; an answer that is neither yes nor no is wrong.

        Raises:
            ValueError: An item has no questions.
        """
        scores = []
        for image, item in zip(images, items, strict=True):
            if not item.questions:
                raise ValueError(f'item {item.id} has no "questions"; yes/no needs them')
            scores.append(float(all(self.ask(image, text) == answer for text, answer in item.questions)))
        return scores

    def ask(self, image: "Image", question: str) -> str:
        """Return ``"yes"``, ``"no"``, or what else the model said."""
        text = self.template.format(question=question)
        (answer,) = self.pipe(
            images=[image.convert("RGB")], text=[text], generate_kwargs={"max_new_tokens": 5, "do_sample": False}
        )
        while isinstance(answer, list):  # the nesting depends on the version
            answer = answer[0]
        said = str(answer["generated_text"]).lower().strip()
        said = said.removeprefix(text.lower().strip())
        word = re.search(r"[a-z]+", said)
        return word[0] if word and word[0] in ("yes", "no") else said
