"""Prompts that were encoded already: neither the text encoder nor the adapter runs again."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from torch import Tensor


class Encoder(Protocol):
    """What a cache stands before: the handle of an attachment."""

    def encode(self, prompt: Any, negative_prompt: Any = None, **options: Any) -> dict[str, Tensor]:
        """Encode prompts into the arguments of the pipeline."""
        ...

    def fingerprint(self) -> Hashable:
        """Return what changes when encoder, adapter or scale change."""
        ...


class PromptCache:
    """The results of ``handle.encode``, the least recently used dropped first.

    A result is found by the prompts, the options, the scales and the state of encoders and adapters, so that training
    an adapter, ``set_scale``, loading a LoRA or scaling it gives new results. What cannot be seen are writes past
    autograd (``weight.data``): call `clear` after those.

    Args:
        handle: What ``attach`` returned.
        max_entries: How many results to keep, >= 1. One SD1.x prompt with its negative is 0.5 MB in float32.

    Attributes:
        hits: Calls that were answered from the cache.
        misses: Calls that were encoded.

    Raises:
        ValueError: ``max_entries`` is less than 1.

    Example:
        >>> import torch
        >>> class Handle:
        ...     def encode(self, prompt, negative_prompt=None):
        ...         return {"prompt_embeds": torch.zeros(1, 77, 64)}
        ...     def fingerprint(self):
        ...         return 0
        >>> cache = PromptCache(Handle())
        >>> cache.encode("a dog")["prompt_embeds"] is cache.encode("a dog")["prompt_embeds"], cache.hits
        (True, 1)
    """

    def __init__(self, handle: Encoder, *, max_entries: int = 256) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries is {max_entries}; it must be at least 1")
        self.hits = self.misses = 0
        self._handle, self._max_entries = handle, max_entries
        self._entries: OrderedDict[Hashable, dict[str, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def encode(
        self, prompt: str | Sequence[str], negative_prompt: str | Sequence[str] | None = None, **options: Any
    ) -> dict[str, Tensor]:
        """Encode as the handle does, or return what it returned before.

        Args:
            prompt: One or several.
            negative_prompt: None, one, or as many.
            **options: Of the handle's ``encode``.

        Returns:
            The arguments of the pipeline. The tensors belong to the cache: do not write into them.
        """
        key = (self._handle.fingerprint(), _frozen(prompt), _frozen(negative_prompt), tuple(sorted(options.items())))
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            found = self._entries[key] = self._handle.encode(prompt, negative_prompt, **options)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        else:
            self.hits += 1
            self._entries.move_to_end(key)
        return dict(found)

    def clear(self) -> None:
        """Forget all results."""
        self._entries.clear()


def _frozen(prompt: str | Sequence[str] | None) -> Hashable:
    return prompt if prompt is None or isinstance(prompt, str) else tuple(prompt)
