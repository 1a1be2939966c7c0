"""Which text encoders a pipeline has, and which of their outputs it reads.

========  =========================  =====================================================
family    slots                      output
========  =========================  =====================================================
SD1.x, 2  text_encoder               last (with clip_skip an earlier state, normed)
SDXL      text_encoder, _2           hidden_states[-2] (with clip_skip an earlier state)
SD3       text_encoder, _2           hidden_states[-2] (with clip_skip an earlier state)
SD3       text_encoder_3             last
Flux      text_encoder_2             last (text_encoder gives only its pooled state)
========  =========================  =====================================================
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel

from sur_adapter._adapter import SURAdapter, encoder_width
from sur_adapter._bundle import SURAdapterBundle

Family = Literal["sd", "sdxl", "sd3", "flux"]

_FIELD = re.compile(r"last|hidden_states\[-[1-9]\d*\]")
_PENULTIMATE = "hidden_states[-2]"
_CLIP, _CLIP_PROJECTED, _T5 = CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel
_FAMILIES: dict[Family, tuple[str, dict[str, tuple[type, str | None]]]] = {
    "sd3": (
        "transformer",
        {
            "text_encoder": (_CLIP_PROJECTED, _PENULTIMATE),
            "text_encoder_2": (_CLIP_PROJECTED, _PENULTIMATE),
            "text_encoder_3": (_T5, "last"),
        },
    ),
    "flux": ("transformer", {"text_encoder": (_CLIP, None), "text_encoder_2": (_T5, "last")}),
    "sdxl": (
        "unet",
        {"text_encoder": (_CLIP, _PENULTIMATE), "text_encoder_2": (_CLIP_PROJECTED, _PENULTIMATE)},
    ),
    "sd": ("unet", {"text_encoder": (_CLIP, "last")}),
}


@dataclass(frozen=True)
class Slot:
    """A text encoder of a pipeline, the output that is adapted, and its tokenizer."""

    name: str
    encoder: nn.Module
    field: str
    tokenizer: Any

    @property
    def width(self) -> int:
        """Channels of its states."""
        return encoder_width(plain(self.encoder))


def plain(encoder: nn.Module) -> nn.Module:
    """Return the module under torch.compile's wrapper."""
    return cast(nn.Module, getattr(encoder, "_orig_mod", encoder))


def family_of(pipe: Any) -> Family | None:
    """Tell a pipeline's family by its denoiser and the classes of its text encoders; a missing encoder fits."""
    present = text_slots(pipe)
    for family, (denoiser, slots) in _FAMILIES.items():
        named = getattr(pipe, "components", {})
        if denoiser in named and set(slots) == {name for name in named if name.startswith("text_encoder")}:
            found = {name: plain(present[name]) for name in slots if name in present}
            if found and all(isinstance(encoder, slots[name][0]) for name, encoder in found.items()):
                return family
    return None


def text_slots(pipe: Any) -> dict[str, nn.Module]:
    """Return the pipeline's text encoders by attribute."""
    components: Mapping[str, Any] = getattr(pipe, "components", {})
    return {
        name: value for name, value in components.items() if "text_encoder" in name and isinstance(value, nn.Module)
    }


def open_slots(pipe: Any, chosen: Mapping[str, str] | None) -> dict[str, Slot]:
    """Return the slots that adapters may go to: those of the family, or those that were chosen.

    Raises:
        ValueError: The pipeline is of no known family and none was chosen, or one is not there, or an output is not
            one that a text encoder has.
    """
    if chosen is None:
        family = family_of(pipe)
        if family is None:
            raise ValueError(
                f"{type(pipe).__name__} is none of the pipelines that attach knows (SD1.x, SD2, SDXL, SD3, Flux). Its "
                f"text encoders: {_listed(pipe)}. Say which output it reads, such as slots={{'text_encoder': 'last'}} "
                "or 'hidden_states[-2]'"
            )
        fields = {name: field for name, (_, field) in _FAMILIES[family][1].items() if field is not None}
        chosen = {name: field for name, field in fields.items() if name in text_slots(pipe)}
    slots = {}
    for name, field in chosen.items():
        encoder = getattr(pipe, name, None)
        if not isinstance(encoder, nn.Module):
            raise ValueError(f"{type(pipe).__name__} has no text encoder {name!r}; it has {_listed(pipe)}")
        if not isinstance(field, str) or not _FIELD.fullmatch(field):
            raise ValueError(f"the output of {name} is {field!r}; it must be 'last' or like 'hidden_states[-2]'")
        slots[name] = Slot(name, encoder, field, getattr(pipe, name.replace("text_encoder", "tokenizer"), None))
    return slots


def assign(
    pipe: Any, adapters: SURAdapter | SURAdapterBundle, slots: Mapping[str, Slot], *, explicit: bool
) -> dict[str, SURAdapter]:
    """Decide which adapter goes to which slot.

    Raises:
        ValueError: There is no slot, or more than one, or one of another width, or one whose output differs from that
            which the adapter was trained on.
    """
    wanted = dict(adapters.items()) if isinstance(adapters, SURAdapterBundle) else {_only(adapters, slots): adapters}
    for name, adapter in wanted.items():
        if name not in slots:
            raise ValueError(
                f"the adapter is for the slot {name!r}; {type(pipe).__name__} reads text states from "
                f"{', '.join(slots) or 'none'} (text encoders: {_listed(pipe)})"
            )
        slot, trained = slots[name], adapter.provenance.encoder_field
        if adapter.hidden_size != slot.width:
            raise ValueError(
                f"the adapter expects text states of width {adapter.hidden_size}, and {name} "
                f"({type(plain(slot.encoder)).__name__}) gives {slot.width}"
            )
        if not explicit and trained not in (None, slot.field):
            raise ValueError(
                f"the adapter was trained on the output {trained!r}, and {type(pipe).__name__} reads {slot.field!r} of "
                f"{name}; slots={{{name!r}: {slot.field!r}}} attaches it all the same"
            )
        if adapter.mask_padding and getattr(slot.tokenizer, "eos_token_id", None) is None:
            raise ValueError(f"the adapter masks the padding, and {type(pipe).__name__} has no tokenizer for {name}")
    return wanted


def _only(adapter: SURAdapter, slots: Mapping[str, Slot]) -> str:
    """Find the slot of a single adapter: the one there is, the one it was trained for, or the one of its width."""
    if len(slots) == 1:
        name = next(iter(slots))
        return adapter.provenance.encoder_slot or name
    if adapter.provenance.encoder_slot is not None:
        return adapter.provenance.encoder_slot
    fitting = [name for name, slot in slots.items() if slot.width == adapter.hidden_size]
    if len(fitting) != 1:
        widths = ", ".join(f"{name} gives {slot.width}" for name, slot in slots.items())
        mend = "name one with slots=, or give a SURAdapterBundle" if fitting else "no text encoder has that width"
        raise ValueError(f"the adapter expects text states of width {adapter.hidden_size}; {widths}: {mend}")
    return fitting[0]


def _listed(pipe: Any) -> str:
    found = []
    for name, encoder in text_slots(pipe).items():
        try:
            width: object = encoder_width(plain(encoder))
        except ValueError:
            width = "?"
        found.append(f"{name} ({type(plain(encoder)).__name__}, width {width})")
    return ", ".join(found) or "none"
