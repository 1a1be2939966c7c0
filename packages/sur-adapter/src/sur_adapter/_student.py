"""What training optimises: the adapters and their projectors as one module with one forward pass a step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from torch import Tensor, nn

from ._adapter import SURAdapter
from ._projector import TeacherProjector

States = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Everything of some images that is encoded before training.

    Attributes:
        latents: ``(B, C, H, W)``, what the denoiser works on; None trains without it.
        narrative: Text states of the narrative prompts by slot, each ``(B, N, d)``.
        complex: Those of the complex prompts.
        teacher: Vectors of the narrative prompts ``(B, teacher_dim)``, or None.
        narrative_mask: By slot ``(B, N)`` bool, True on tokens of the text; empty: all tokens count.
        complex_mask: The same for the complex prompts.
        extra: What else the denoiser is given, by name, each ``(B, ...)``.
    """

    latents: Tensor | None
    narrative: States
    complex: States
    teacher: Tensor | None = None
    narrative_mask: States = field(default_factory=dict)
    complex_mask: States = field(default_factory=dict)
    extra: States = field(default_factory=dict)


class Adapted(NamedTuple):
    """What one forward pass gives, by slot.

    Attributes:
        narrative: Adapted states of the narrative prompts.
        complex: Adapted states of the complex prompts; empty when they were not asked for.
        target: The teacher's side of the projector; empty without a teacher.
        student: The student's side.
    """

    narrative: dict[str, Tensor]
    complex: dict[str, Tensor]
    target: dict[str, Tensor]
    student: dict[str, Tensor]


class Student(nn.Module):
    """Adapters by encoder slot, with a projector each where there is a teacher.

    Args:
        adapters: By slot, such as ``{"text_encoder": adapter}``.
        projectors: For the same slots; None is training without a teacher.

    Raises:
        ValueError: There is no adapter, or slots or widths do not fit.

    Example:
        >>> from sur_adapter import Student, SURAdapter, TeacherProjector
        >>> Student({"text_encoder": SURAdapter(64)}, {"text_encoder": TeacherProjector(384, 32)})
        Traceback (most recent call last):
        ...
        ValueError: the projector of text_encoder expects width 32, its adapter's encoder has 64
    """

    def __init__(
        self, adapters: Mapping[str, SURAdapter], projectors: Mapping[str, TeacherProjector] | None = None
    ) -> None:
        super().__init__()
        if not adapters:
            raise ValueError("there is no adapter to train; give {slot: adapter}")
        if projectors is not None and projectors.keys() != adapters.keys():
            raise ValueError(f"projectors for {sorted(projectors)}, but adapters for {sorted(adapters)}")
        for slot, projector in (projectors or {}).items():
            if projector.hidden_size != adapters[slot].width:
                raise ValueError(
                    f"the projector of {slot} expects width {projector.hidden_size}, its adapter's encoder has "
                    f"{adapters[slot].width}"
                )
        self.adapters = nn.ModuleDict(adapters)
        self.projectors = nn.ModuleDict(projectors or {})

    def adapter(self, slot: str) -> SURAdapter:
        """Return the adapter of a slot."""
        return cast(SURAdapter, self.adapters[slot])

    def forward(self, batch: Batch, *, preserve: bool = True) -> Adapted:
        """Adapt the narrative prompts, and the complex ones when ``preserve`` asks for it."""
        adapted = Adapted({}, {}, {}, {})
        for slot in self.adapters:
            adapter = self.adapter(slot)
            out, h, _ = adapter(
                batch.narrative[slot], mask=_mask(adapter, batch.narrative_mask, slot), return_intermediates=True
            )
            adapted.narrative[slot] = out
            if preserve:
                adapted.complex[slot] = adapter(batch.complex[slot], mask=_mask(adapter, batch.complex_mask, slot))
            if slot in self.projectors and batch.teacher is not None:
                adapted.target[slot], adapted.student[slot] = self.projectors[slot](batch.teacher, h)
        return adapted


def _mask(adapter: SURAdapter, masks: States, slot: str) -> Tensor | None:
    return masks.get(slot) if adapter.mask_padding else None
