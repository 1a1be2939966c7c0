"""Instructions as batches: the prompt is read, the answer and its end are learnt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from clot._backend import Prompt
from clot._instructions import Instruction
from clot.integrations.hf._encode import Encoded, Encoder
from clot.integrations.hf._record_error import RecordError

_PROBE = "x"


@dataclass(frozen=True, slots=True)
class Example:
    """An instruction as token ids.

    Attributes:
        kind: Of the instruction.
        prompt: The prompt, encoded.
        target: Tokens of the answer and of what ends it.
    """

    kind: str
    prompt: Encoded
    target: tuple[int, ...]


class Collator:
    """Encode instructions. What a chat template writes after an answer is learnt up to its end token, without newline.

    Args:
        processor: The model's processor.
        context: Most tokens that the model reads; longer instructions are left out.
        pictures: Encoded pictures by identifier, for instructions that hold none.
    """

    def __init__(self, processor: Any, *, context: int | None, pictures: Mapping[str, bytes] | None = None) -> None:
        self._pictures = pictures or {}
        self.encoder = Encoder(processor, context=context)
        self._end = self._ending(processor)

    def _ending(self, processor: Any) -> tuple[int, ...]:
        """Find what the template writes after an answer, by writing one."""
        user = {"role": "user", "content": [{"type": "text", "text": _PROBE}]}
        answer = {"role": "assistant", "content": [{"type": "text", "text": _PROBE}]}
        opened = processor.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        whole = processor.apply_chat_template([user, answer], tokenize=False)
        tail = whole.removeprefix(opened + _PROBE).rstrip() if whole.startswith(opened + _PROBE) else ""
        tail = tail or processor.tokenizer.eos_token or ""
        ids = tuple(processor.tokenizer(tail, add_special_tokens=False)["input_ids"])
        if not ids:
            raise ValueError("neither chat template nor tokenizer has an end of the answer; set tokenizer.eos_token")
        return ids

    def example(self, instruction: Instruction) -> Example | None:
        """Encode an instruction; None where it is longer than the context.

        Raises:
            RecordError: Its picture does not load, or its target is empty.
        """
        if not instruction.target.strip():
            raise RecordError(instruction.id, "its target is empty; leave it out")
        prompt = instruction.prompt
        if instruction.image is not None and prompt.image is None:
            if instruction.image not in self._pictures:
                raise RecordError(
                    instruction.id, f"its picture {instruction.image!r} is not there; give a folder that holds it"
                )
            prompt = replace(prompt, image=self._pictures[instruction.image])
        target = (*self.encoder.continuation(instruction.target), *self._end)
        encoded = self.encoder.encode(instruction.id, prompt, room=None)
        if self.encoder.context is not None and len(encoded.ids) + len(target) > self.encoder.context:
            return None
        return Example(instruction.kind, encoded, target)

    def nothing(self) -> Example:
        """An example without anything to learn, for a process that has nothing to do in a step."""
        return Example("", self.encoder.encode("", Prompt(_PROBE), room=None), ())

    @staticmethod
    def batch(examples: Sequence[Example]) -> tuple[list[Encoded], Tensor]:
        """Lay examples out side by side.

        Returns:
            Prompts with their answers, and labels (examples, longest), -100 where nothing is learnt, padded right.
        """
        rows = [replace(one.prompt, ids=one.prompt.ids + one.target) for one in examples]
        labels = torch.full((len(rows), max(len(one.ids) for one in rows)), -100)
        for at, one in enumerate(examples):
            start = len(one.prompt.ids)
            labels[at, start : start + len(one.target)] = torch.tensor(one.target, dtype=torch.long)
        return rows, labels
