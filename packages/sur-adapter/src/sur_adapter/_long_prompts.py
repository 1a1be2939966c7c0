"""Prompts longer than an encoder reads: what is lost, and the chunks that lose nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Truncation:
    """A prompt that an encoder does not read to its end.

    Attributes:
        slot: The encoder.
        prompt: The prompt.
        tokens: Its tokens, start and end tokens included.
        limit: The most that the encoder reads.
        lost: The text that is cut off, as the tokenizer writes it.
    """

    slot: str
    prompt: str
    tokens: int
    limit: int
    lost: str

    def __str__(self) -> str:
        return f"{self.slot} reads {self.limit} of {self.tokens} tokens of {self.prompt!r}; lost: {self.lost!r}"


def find_truncations(tokenizer: Any, prompts: Sequence[str], *, limit: int, slot: str) -> list[Truncation]:
    """List the prompts that are longer than ``limit`` tokens, start and end tokens included."""
    room = limit - tokenizer.num_special_tokens_to_add()
    found = []
    for prompt, ids in zip(prompts, token_ids(tokenizer, prompts), strict=True):
        if len(ids) > room:
            lost = tokenizer.decode(ids[room:]).strip()
            found.append(Truncation(slot, prompt, len(ids) + limit - room, limit, lost))
    return found


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each prompt, all of them, without start and end tokens."""
    encoded = tokenizer(list(prompts), add_special_tokens=False, truncation=False, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def chunked(ids: Sequence[Sequence[int]], tokenizer: Any, *, chunks: int) -> Tensor:
    """Cut token lists into chunks that the encoder reads, each between a start and an end token, padded.

    Args:
        ids: One list a prompt.
        tokenizer: A CLIP tokenizer; ``model_max_length`` is the length of a chunk, 77.
        chunks: Chunks n of every prompt; what a prompt has beyond them is cut off.

    Returns:
        ``(B, n, 77)``.
    """
    length = tokenizer.model_max_length
    room = length - 2
    rows = []
    for prompt in ids:
        for chunk in range(chunks):
            part = [tokenizer.bos_token_id, *prompt[chunk * room : (chunk + 1) * room], tokenizer.eos_token_id]
            rows.append(part + [tokenizer.pad_token_id] * (length - len(part)))
    return torch.tensor(rows, dtype=torch.long).view(len(ids), chunks, length)


def chunks_needed(ids: Sequence[Sequence[int]], tokenizer: Any) -> int:
    """Return how many chunks the longest of some token lists needs, at least 1."""
    room = int(tokenizer.model_max_length) - 2
    longest = max(map(len, ids), default=0)
    return max(1, -(-longest // room))
