"""What a cache compares: the state of the text encoders and of the adapters on them, in some tens of microseconds."""

from collections.abc import Hashable, Mapping
from typing import Any

from torch import nn

from ._hook import Entry, SlotHook
from ._slots import plain, text_slots


class Fingerprint:
    """The versions that autograd counts for every parameter, and the state of PEFT's layers."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._encoders: dict[int, _Parameters] = {}

    def __call__(self, hooks: Mapping[str, SlotHook]) -> Hashable:
        """Return a value that differs when a result may differ."""
        encoders = []
        for name in self._names():
            encoder = getattr(self._pipe, name)
            if encoder is None:
                continue
            known = self._encoders.get(id(encoder))
            if known is None or known.module is not encoder:
                known = self._encoders[id(encoder)] = _Parameters(encoder)
            tokenizer = getattr(self._pipe, name.replace("text_encoder", "tokenizer"), None)
            encoders.append((id(encoder), known.state(), len(tokenizer) if tokenizer is not None else 0))
        attached = [(name, hook.paused, *map(self._entry, hook.entries)) for name, hook in hooks.items()]
        return (*encoders, *attached)

    def _names(self) -> list[str]:
        if not hasattr(self, "_found"):
            self._found = list(text_slots(self._pipe))
        return self._found

    def _entry(self, entry: Entry) -> Hashable:
        known = self._encoders.get(id(entry.adapter))
        if known is None or known.module is not entry.adapter:
            known = self._encoders[id(entry.adapter)] = _Parameters(entry.adapter)
        return id(entry.adapter), entry.strength, entry.adapter.training, known.state()


class _Parameters:
    """A module's parameters, listed anew when PEFT comes or goes."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._inner = plain(module)
        self._list: list[Any] | None = None
        self._had_peft = False

    def state(self) -> Hashable:
        has_peft = bool(self._inner.__dict__.get("peft_config"))
        if self._list is None or has_peft or has_peft != self._had_peft:
            # an inference tensor has no version, and cannot be written in place outside of inference mode
            self._list = [one for one in self._inner.parameters() if not one.is_inference()]
        self._had_peft = has_peft
        versions = sum([one._version for one in self._list])
        return (versions, *self._tuners()) if has_peft else versions

    def _tuners(self) -> list[Hashable]:
        """Read which LoRA is active in each layer, and how strongly."""
        found: list[Hashable] = []
        for module in self._inner.modules():
            scaling = getattr(module, "scaling", None)
            if isinstance(scaling, dict):
                active = getattr(module, "active_adapters", ())
                found.append((*active, *scaling.items(), bool(getattr(module, "disable_adapters", False))))
                found.append(tuple(getattr(module, "merged_adapters", ())))
        return found
