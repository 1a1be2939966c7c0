"""Prompts as token ids and picture tensors, each picture prepared once."""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from clot._backend import Prompt

from ._picture import open_picture
from ._record_error import RecordError

_KEPT_PICTURES = 64


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as a model reads it.

    Attributes:
        id: Of the request.
        ids: Token ids, the opening of the answer included.
        picture: Digest of the picture's bytes; empty without one.
        free: Number of tokens up to the last one that stands for the picture: later ones are plain text.
        aligned: Further inputs with one number a token, such as ``mm_token_type_ids``.
        tensors: Inputs that come with the picture, such as ``pixel_values``.
    """

    id: str
    ids: tuple[int, ...]
    picture: bytes
    free: int
    aligned: dict[str, tuple[int, ...]]
    tensors: dict[str, Tensor]


class Encoder:
    """Turn prompts into what a processor's model reads.

    Special tokens that stand in a prompt's own text are taken apart by a space, so that no text can end its message.

    Args:
        processor: A processor with a chat template, a tokenizer and, for pictures, an image processor.
        context: Most tokens that the model reads, answer included; None for no limit.
    """

    def __init__(self, processor: Any, *, context: int | None) -> None:
        if not getattr(processor, "chat_template", None):
            raise ValueError("the processor has no chat template; load the processor of a chat (instruct) model")
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.context = context
        self._special = sorted({*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}, key=len)[::-1]
        self._pictures: OrderedDict[bytes, tuple[Encoded, str]] = OrderedDict()

    def plain(self, text: str) -> str:
        """Take special tokens in a text apart."""
        for token in self._special:
            if token and token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def continuation(self, text: str) -> tuple[int, ...]:
        """Tokenize what follows a prompt."""
        return tuple(self.tokenizer(self.plain(text), add_special_tokens=False)["input_ids"])

    def encode(self, record_id: str, prompt: Prompt, *, room: int | None) -> Encoded:
        """Encode a prompt and see that ``room`` further tokens fit; None does not look.

        Raises:
            RecordError: The picture does not load, or prompt and room are longer than the context.
        """
        encoded = self._text(record_id, prompt) if prompt.image is None else self._with_picture(record_id, prompt)
        if self.context is not None and room is not None and len(encoded.ids) + room > self.context:
            raise RecordError(
                record_id,
                f"its prompt has {len(encoded.ids)} tokens and {room} follow, which is more than the model's context "
                f"of {self.context}; shorten it or drop the record",
            )
        return encoded

    def _text(self, record_id: str, prompt: Prompt) -> Encoded:
        return self._encoded(record_id, b"", self._apply(self._parts(prompt)))

    def _with_picture(self, record_id: str, prompt: Prompt) -> Encoded:
        """Encode in full, or put the picture's tokens of an earlier prompt between the new text's."""
        assert prompt.image is not None
        digest = blake2b(prompt.image, digest_size=16).digest()
        rendered = self._render(self._parts(prompt, picture=True))
        if known := self._pictures.get(digest):
            self._pictures.move_to_end(digest)
            if spliced := self._splice(record_id, rendered, *known):
                return spliced
        image = open_picture(record_id, prompt.image)
        try:
            encoded = self._encoded(record_id, digest, self._apply(self._parts(prompt, picture=image)))
        except ValueError as error:
            raise RecordError(record_id, f"the processor refuses its picture of {image.size} pixels: {error}") from None
        self._pictures[digest] = (encoded, rendered)
        if len(self._pictures) > _KEPT_PICTURES:
            self._pictures.popitem(last=False)
        return encoded

    def _splice(self, record_id: str, rendered: str, known: Encoded, known_text: str) -> Encoded | None:
        """Replace the text around a known picture; None where the processor's own tokens are not found again."""
        mark = getattr(self.processor, "image_token", None)
        if not mark or rendered.count(mark) != 1 or known_text.count(mark) != 1:
            return None
        before, after = (self._ids(part) for part in known_text.split(mark))
        end = len(known.ids) - len(after)
        if known.ids[: len(before)] != before or known.ids[end:] != after:
            return None
        new_before, new_after = (self._ids(part) for part in rendered.split(mark))

        def around(middle: tuple[int, ...], first: tuple[int, ...], last: tuple[int, ...]) -> tuple[int, ...]:
            return first + middle[len(before) : end] + last

        zeros = (0,) * len(new_before), (0,) * len(new_after)
        return Encoded(
            record_id,
            around(known.ids, new_before, new_after),
            known.picture,
            known.free - len(before) + len(new_before),
            {name: around(values, *zeros) for name, values in known.aligned.items()},
            known.tensors,
        )

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _parts(self, prompt: Prompt, picture: Any = None) -> list[dict[str, Any]]:
        text = {"type": "text", "text": self.plain(prompt.text)}
        content = [text] if picture is None else [{"type": "image", "image": picture}, text]
        return [{"role": "user", "content": content}]

    def _render(self, messages: list[dict[str, Any]]) -> str:
        return str(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _apply(self, messages: list[dict[str, Any]]) -> dict[str, Tensor]:
        return dict(
            self.processor.apply_chat_template(
                messages, tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt"
            )
        )

    def _encoded(self, record_id: str, digest: bytes, inputs: dict[str, Tensor]) -> Encoded:
        ids = inputs.pop("input_ids")
        inputs.pop("attention_mask", None)
        aligned = {name: value for name, value in inputs.items() if value.shape == ids.shape}
        tensors = {name: value for name, value in inputs.items() if name not in aligned}
        free = 0
        if digest:
            marks = torch.zeros_like(ids[0], dtype=torch.bool)
            for value in aligned.values():
                marks |= value[0] != 0
            if (token := getattr(self.processor, "image_token_id", None)) is not None:
                marks |= ids[0] == token
            free = int(marks.nonzero().max()) + 1 if marks.any() else ids.shape[1]
        return Encoded(
            record_id,
            tuple(ids[0].tolist()),
            digest,
            free,
            {name: tuple(value[0].tolist()) for name, value in aligned.items()},
            tensors,
        )
