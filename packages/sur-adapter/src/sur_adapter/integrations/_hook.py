"""All adapters on one text encoder, behind one set of hooks."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from sur_adapter._adapter import SURAdapter
from sur_adapter.functional import token_mask

from ._slots import Slot, plain

_ATTRIBUTE = "_sur_adapter_hook"  # on the encoder, which several pipelines may share; not a submodule


@dataclass
class Entry:
    """One adapter and its strength here; None is the adapter's own."""

    adapter: SURAdapter
    scale: float | None
    was_training: bool

    @property
    def strength(self) -> float:
        """The scale in force."""
        return self.adapter.scale if self.scale is None else self.scale


class AdaptedStates(tuple[Tensor, ...]):
    """Hidden states of which the one that is read is adapted: which one is, only the reader knows (clip_skip)."""

    _adapt: Callable[[Tensor], Tensor]

    def __new__(cls, states: Iterable[Tensor], adapt: Callable[[Tensor], Tensor]) -> Self:
        """Keep the states and what adapts one."""
        self = super().__new__(cls, states)
        self._adapt = adapt
        return self

    def __getitem__(self, index: Any) -> Any:
        value = super().__getitem__(index)
        return self._adapt(value) if isinstance(index, int) else value


class SlotHook:
    """Replaces the output that the pipeline reads; never writes into it, for others may hold it.

    With one adapter the states are adapter(x); each further one adds its own change of x, adapter(x) - x.
    """

    def __init__(self, slot: Slot) -> None:
        self.field = slot.field
        self.entries: list[Entry] = []
        self.paused = False
        self._eos = getattr(slot.tokenizer, "eos_token_id", None)
        self._ids: Tensor | None = None
        self._norm_is_next = False
        self._encoder = slot.encoder
        register = slot.encoder.register_forward_hook(self._after, with_kwargs=True)
        self._handles = [register, slot.encoder.register_forward_pre_hook(self._before)]
        norm = getattr(getattr(plain(slot.encoder), "text_model", plain(slot.encoder)), "final_layer_norm", None)
        if slot.field == "last" and isinstance(norm, nn.Module):
            self._handles.append(norm.register_forward_hook(self._after_norm))
        self._encoder.__dict__[_ATTRIBUTE] = self  # torch.compile's wrapper hands setattr on to what it wraps

    @classmethod
    def of(cls, encoder: Any) -> Self | None:
        """Return the hook that an encoder has, or the module under torch.compile's wrapper."""
        found = getattr(encoder, "__dict__", {}).get(_ATTRIBUTE)
        found = getattr(plain(encoder), "__dict__", {}).get(_ATTRIBUTE) if found is None else found
        return found if isinstance(found, cls) else None

    def add(self, entry: Entry) -> None:
        """Put an adapter behind those that are here."""
        self.entries = [*self.entries, entry]

    def remove(self, entry: Entry) -> None:
        """Take an adapter away, and with the last one the hooks."""
        self.entries = [one for one in self.entries if one is not entry]
        if not self.entries:
            for handle in self._handles:
                handle.remove()
            if self._encoder.__dict__.get(_ATTRIBUTE) is self:
                del self._encoder.__dict__[_ATTRIBUTE]

    def active(self) -> bool:
        """Whether any adapter changes anything now."""
        return not self.paused and any(entry.strength != 0 for entry in self.entries)

    def adapt(self, states: Tensor) -> Tensor:
        """Apply the adapters to states of the texts that the encoder read last."""
        if not self.active():
            return states
        out: Tensor | None = None
        for entry in self.entries:
            if entry.strength == 0:
                continue
            weight = entry.adapter.fc.weight
            if weight.device != states.device:
                entry.adapter.to(states.device)
            x = states.to(weight.dtype)
            mask = None
            if entry.adapter.mask_padding and self._ids is not None and self._eos is not None:
                mask = token_mask(self._ids, self._eos).to(x.device)
            y = entry.adapter(x, mask=mask, scale=entry.scale)
            out = y.to(states.dtype) if out is None else out + (y - x).to(states.dtype)
        return states if out is None else out

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._norm_is_next = False

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not self.active():
            return None
        if isinstance(output, tuple):
            raise TypeError(
                f"{type(module).__name__} returned a tuple, in which the adapter cannot tell the outputs apart; set "
                "its config's return_dict to True"
            )
        self._ids = kwargs.get("input_ids", args[0] if args else None)
        hidden = output.get("hidden_states")
        if self.field != "last":
            return None if hidden is None else _with(output, hidden_states=AdaptedStates(hidden, self.adapt))
        self._norm_is_next = hidden is not None  # SD1.x reads an earlier state and norms it itself: clip_skip
        return _with(output, last_hidden_state=self.adapt(output["last_hidden_state"]))

    def _after_norm(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if not self._norm_is_next:
            return None
        self._norm_is_next = False
        return self.adapt(output)


@contextmanager
def paused(hooks: Iterable[SlotHook]) -> Iterator[None]:
    """Let text pass as if nothing were attached."""
    before = [(hook, hook.paused) for hook in hooks]
    for hook, _ in before:
        hook.paused = True
    try:
        yield
    finally:
        for hook, was in before:
            hook.paused = was


def _with(output: Any, **changes: Any) -> Any:
    return type(output)(**{**output, **changes})
