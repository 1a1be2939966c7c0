"""diffusers: adapters on the text encoders of a pipeline, by hooks.

Works on SD1.x, SD2, SDXL, SD3 and Flux and on their image-to-image, inpainting and ControlNet forms; on other pipelines
with ``slots=``. A pipeline is not changed otherwise: what ``save_pretrained`` writes stays the same, LoRA, offloading
and compilation work as before, and `Handle.detach` restores every bit. Pipelines made with ``from_pipe`` share the
encoder and with it the adapter. Embeddings that a caller gives as ``prompt_embeds`` are not adapted.
"""

import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor

from sur_adapter._adapter import SURAdapter, check_scale
from sur_adapter._bundle import SURAdapterBundle, load_folder
from sur_adapter._long_prompts import Truncation, find_truncations
from sur_adapter._prompt_cache import PromptCache

from ._encode import Negative, encode_prompts
from ._fingerprint import Fingerprint
from ._hook import Entry, SlotHook
from ._hub import load_from_hub, push_to_hub
from ._model import SURAdapterModel
from ._slots import Slot, assign, family_of, open_slots, plain

__all__ = [
    "Handle",
    "PromptCache",
    "SURAdapterModel",
    "Truncation",
    "attach",
    "load_from_hub",
    "push_to_hub",
]

_T5_TOKENS = {"sd3": 256, "flux": 512}


def attach(
    pipe: Any,
    adapter_or_path: SURAdapter | SURAdapterBundle | str | os.PathLike[str],
    *,
    scale: float | None = None,
    slots: Mapping[str, str] | None = None,
    strict_base: bool = False,
) -> "Handle":
    """Attach an adapter, or one for each slot, to a pipeline's text encoders.

    The prompt and the negative prompt are both adapted; ``handle.encode(..., negative="skip")`` spares the latter.
    Several adapters may be attached to one encoder: each adds its own change of the encoder's states.

    Args:
        pipe: A diffusers pipeline.
        adapter_or_path: A `SURAdapter`, a `SURAdapterBundle`, or the local folder of one. A single adapter goes to the
            slot in its provenance, else to the only encoder of its width. It is put into evaluation mode, and moved to
            where the encoder computes; one from a folder also takes the encoder's dtype.
        scale: The strength, instead of the adapter's own; finite. 0 leaves every bit as it is.
        slots: Which encoders of another pipeline, and which output it reads of each: ``"last"`` or
            ``"hidden_states[-k]"``.
        strict_base: Whether an adapter of another base model is an error and not a warning.

    Returns:
        The handle; also a context manager that detaches.

    Raises:
        FileNotFoundError: The folder is not there; nothing is downloaded.
        ValueError: The folder is damaged, a width or an output does not fit (both are named), a slot is wrong, the
            adapter is attached already, the scale is not finite, or the base model differs and ``strict_base``.
        TypeError: It is no adapter.

    Example:
        >>> from sur_adapter.integrations.diffusers import attach
        >>> attach(None, "no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no folder no/such/folder (absolute: ...); nothing is downloaded
    """
    adapters = adapter_or_path
    if isinstance(adapters, str | os.PathLike):
        adapters = load_folder(adapters)
    if not isinstance(adapters, SURAdapter | SURAdapterBundle):
        raise TypeError(f"attach takes a SURAdapter, a SURAdapterBundle or a folder, not {type(adapters).__name__}")
    scale = None if scale is None else check_scale(scale)
    available = open_slots(pipe, slots)
    wanted = assign(pipe, adapters, available, explicit=slots is not None)
    for name, adapter in wanted.items():
        if adapters is not adapter_or_path:  # ours, from a folder: a file in fp16 shall not compute in it on a CPU
            adapter.to(getattr(plain(available[name].encoder), "dtype", None))
        _check_base(pipe, adapter, strict=strict_base)
        hook = SlotHook.of(available[name].encoder)
        if hook is not None and any(entry.adapter is adapter for entry in hook.entries):
            raise ValueError(f"this adapter is attached to {name} already; use its handle's set_scale, or detach it")
        if hook is not None and hook.field != available[name].field:
            raise ValueError(f"{name} has an adapter on its output {hook.field!r}; detach it before {slots}")
    return Handle(pipe, {name: available[name] for name in wanted}, wanted, scale)


class Handle:
    """An attachment. Leaving it as a context manager detaches.

    Attributes:
        adapters: The adapters by slot.
    """

    def __init__(
        self, pipe: Any, slots: Mapping[str, Slot], adapters: Mapping[str, SURAdapter], scale: float | None
    ) -> None:
        self.adapters = dict(adapters)
        self._pipe, self._slots = pipe, dict(slots)
        self._hooks = {name: SlotHook.of(slot.encoder) or SlotHook(slot) for name, slot in slots.items()}
        self._entries = {name: Entry(one, scale, one.training) for name, one in adapters.items()}
        for name, entry in self._entries.items():
            entry.adapter.eval()
            self._hooks[name].add(entry)
        self._fingerprint = Fingerprint(pipe)
        self._attached = True

    @property
    def scales(self) -> dict[str, float]:
        """The strengths in force, by slot."""
        return {name: entry.strength for name, entry in self._entries.items()}

    def set_scale(self, scale: float | Mapping[str, float | None] | None) -> None:
        """Set the strength, of all slots or by slot.

        Args:
            scale: A finite number; None is the adapter's own; 0 switches it off, bit for bit.

        Raises:
            ValueError: It is not finite, or a slot is not one of this handle's.
        """
        scales = scale if isinstance(scale, Mapping) else dict.fromkeys(self._entries, scale)
        if unknown := sorted(scales.keys() - self._entries.keys()):
            raise ValueError(f"no adapter is attached to {unknown[0]!r} here; slots: {', '.join(self._entries)}")
        checked = {name: None if value is None else check_scale(value) for name, value in scales.items()}
        for name, value in checked.items():
            self._entries[name].scale = value

    def detach(self) -> None:
        """Remove the adapters; the pipeline then gives the bits that it gave before. A second call does nothing."""
        if self._attached:
            self._attached = False
            for name, entry in self._entries.items():
                self._hooks[name].remove(entry)
                entry.adapter.train(entry.was_training)

    @torch.no_grad()
    def encode(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        negative: Negative = "adapt",
        guidance: bool = True,
        clip_skip: int | None = None,
        long: Literal["truncate", "chunk"] = "truncate",
        max_sequence_length: int | None = None,
    ) -> dict[str, Tensor]:
        """Encode prompts into the arguments that the pipeline takes instead of them: ``pipe(**handle.encode(...))``.

        With ``negative="adapt"`` and ``long="truncate"`` the images equal those of ``pipe(prompt, negative_prompt)``.

        Args:
            prompt: One or several, none empty.
            negative_prompt: None, one for all, or as many.
            negative: ``"adapt"``: as the attached pipeline does. ``"skip"``: the negative prompt passes without any
                adapter.
            guidance: Whether the pipeline will run with classifier-free guidance and needs the negative. Flux gets one
                where ``negative_prompt`` is given.
            clip_skip: Layers to skip, as in the pipelines; also on SD1.x where diffusers 0.42 cannot.
            long: ``"truncate"`` to 77 tokens, with a warning that names what is lost. ``"chunk"``: pieces of 75 tokens,
                each encoded and adapted by itself, one behind the other (SD1.x, SD2, SDXL).
            max_sequence_length: Tokens that T5 reads (SD3, Flux).

        Returns:
            ``prompt_embeds``, ``negative_prompt_embeds`` and, where the pipeline has them, the pooled ones.

        Raises:
            ValueError: A prompt is empty, an option does not fit the pipeline, the handle is detached, or the pipeline
                has got another encoder since.
        """
        if not self._attached:
            raise ValueError("this handle is detached; attach again to encode")
        for name, slot in self._slots.items():
            if plain(getattr(self._pipe, name)) is not plain(slot.encoder):
                raise ValueError(f"the pipeline's {name} was replaced since the adapter was attached; attach it again")
        if negative not in ("adapt", "skip"):
            raise ValueError(f"negative is {negative!r}; it must be 'adapt' or 'skip'")
        if long not in ("truncate", "chunk"):
            raise ValueError(f"long is {long!r}; it must be 'truncate' or 'chunk'")
        prompts, negatives = _prompts(prompt), _negatives(negative_prompt, prompt)
        if long == "truncate":
            for cut in self.truncated([*prompts, *(negatives or [])], max_sequence_length=max_sequence_length):
                warnings.warn(str(cut), stacklevel=3)
        return encode_prompts(
            self._pipe,
            _hooks_of(self._pipe),
            prompts,
            negatives,
            negative=negative,
            guidance=guidance,
            clip_skip=clip_skip,
            chunk=long == "chunk",
            max_sequence_length=max_sequence_length,
        )

    def truncated(self, prompt: str | Sequence[str], *, max_sequence_length: int | None = None) -> list[Truncation]:
        """Report the prompts that the adapted encoders do not read to their end.

        Args:
            prompt: One or several.
            max_sequence_length: Tokens that T5 reads; None is the pipeline's default, 256 in SD3 and 512 in Flux.

        Returns:
            One entry for each prompt and slot that is cut.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        t5 = max_sequence_length or _T5_TOKENS.get(family_of(self._pipe) or "")
        found: list[Truncation] = []
        for name, slot in self._slots.items():
            if slot.tokenizer is not None:
                limit = t5 if t5 is not None and slot.field == "last" else slot.tokenizer.model_max_length
                found += find_truncations(slot.tokenizer, list(dict.fromkeys(prompts)), limit=limit, slot=name)
        return found

    def fingerprint(self) -> Hashable:
        """Return what changes when an encoder, a LoRA on it, an adapter or a scale changes; for `PromptCache`."""
        return self._fingerprint(self._hooks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.detach()

    def __repr__(self) -> str:
        state = ", ".join(f"{name}: scale={value:g}" for name, value in self.scales.items())
        return f"Handle({state})" if self._attached else "Handle(detached)"


def _hooks_of(pipe: Any) -> list[SlotHook]:
    """Return the hooks of all adapters on the pipeline, of this handle or another."""
    encoders = [value for name, value in pipe.components.items() if "text_encoder" in name]
    return [hook for hook in map(SlotHook.of, encoders) if hook is not None]


def _prompts(prompt: str | Sequence[str]) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise ValueError("there is no prompt; give at least one")
    for number, one in enumerate(prompts, start=1):
        if not isinstance(one, str):
            raise TypeError(f"prompt {number} is a {type(one).__name__}; it must be a string")
        if not one.strip():
            raise ValueError(f"prompt {number} of {len(prompts)} is empty")
    return prompts


def _negatives(negative: str | Sequence[str] | None, prompt: str | Sequence[str]) -> list[str] | None:
    count = 1 if isinstance(prompt, str) else len(prompt)
    if negative is None or isinstance(negative, str):
        return None if negative is None else [negative] * count
    if len(negative) != count:
        raise ValueError(f"there are {len(negative)} negative prompts for {count} prompts; give one, or as many")
    return list(negative)


def _check_base(pipe: Any, adapter: SURAdapter, *, strict: bool) -> None:
    """Compare the names of the base models by their last part, so that a local copy of a Hub model passes."""
    trained, found = adapter.provenance.base_model_id, getattr(pipe, "name_or_path", None)
    if not trained or not found or _last_part(trained) == _last_part(found):
        return
    message = f"the adapter was trained on {trained!r}, and this pipeline is {found!r}; its effect there is unknown"
    if strict:
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
