"""Adapters for several text encoders of one pipeline, each in a folder of its own under one bundle.json."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, cast

import torch
from torch import nn

from ._adapter import SURAdapter
from ._save import FORMAT_VERSION, check_folder, packed, read_json, write_folder

BUNDLE = "bundle.json"
_SLOT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SURAdapterBundle(nn.Module):
    """One adapter for each slot, the pipeline's attribute that holds a text encoder.

    A pipeline that concatenates the states of two encoders, such as SDXL with 768 and 1280 channels, gets two adapters
    (46 million parameters) and not one of 2048 channels (71 million).

    Args:
        adapters: The adapters by slot.

    Raises:
        ValueError: There is none, or a slot is not the name of an attribute.
        TypeError: A value is not a `SURAdapter`.

    Example:
        >>> from sur_adapter import SURAdapter, SURAdapterBundle
        >>> bundle = SURAdapterBundle({"text_encoder": SURAdapter(64), "text_encoder_2": SURAdapter(128)})
        >>> list(bundle), bundle["text_encoder_2"].hidden_size
        (['text_encoder', 'text_encoder_2'], 128)
    """

    def __init__(self, adapters: Mapping[str, SURAdapter]) -> None:
        super().__init__()
        if not adapters:
            raise ValueError("a bundle needs at least one adapter, such as {'text_encoder': SURAdapter(768)}")
        for slot, adapter in adapters.items():
            check_slot(slot)
            if not isinstance(adapter, SURAdapter):
                raise TypeError(f"the adapter of {slot!r} is a {type(adapter).__name__}; it must be a SURAdapter")
        self.adapters = nn.ModuleDict(adapters)

    def __getitem__(self, slot: str) -> SURAdapter:
        if slot not in self.adapters:
            raise KeyError(f"the bundle has no adapter for {slot!r}; it has {', '.join(self)}")
        return cast(SURAdapter, self.adapters[slot])

    def __iter__(self) -> Iterator[str]:
        return iter(self.adapters)

    def __len__(self) -> int:
        return len(self.adapters)

    def items(self) -> Iterator[tuple[str, SURAdapter]]:
        """Iterate over slots and adapters."""
        return ((slot, self[slot]) for slot in self)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write ``bundle.json`` and for each slot the folder of its adapter.

        Args:
            save_directory: The folder; a new one appears whole or not at all.
        """
        files = {f"{slot}/{name}": data for slot, adapter in self.items() for name, data in packed(adapter).items()}
        listed = json.dumps({"format_version": FORMAT_VERSION, "slots": list(self)}, indent=2)
        write_folder(Path(save_directory), {**files, BUNDLE: (listed + "\n").encode()})

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Load a bundle from a local folder; nothing is downloaded and nothing is executed.

        Args:
            folder: Written by `save_pretrained`.
            device: Of the parameters; None is the CPU.
            dtype: Of the parameters; None is that of the files.

        Returns:
            The bundle, in evaluation mode.

        Raises:
            FileNotFoundError: There is no such folder, or a file in it is missing.
            ValueError: A file is damaged, of another format, a pickle, or does not fit its config.
        """
        folder = Path(folder)
        check_folder(folder)
        listed = read_json(folder / BUNDLE)
        if (version := listed.get("format_version")) != FORMAT_VERSION:
            raise ValueError(f"{folder / BUNDLE}: format_version is {version!r}; this version reads {FORMAT_VERSION}")
        slots = listed.get("slots")
        if not isinstance(slots, list) or not slots:
            raise ValueError(f"{folder / BUNDLE}: slots is {slots!r}; expected a list of names")
        for slot in slots:
            check_slot(slot)
        load = SURAdapter.from_pretrained
        return cls({slot: load(folder / slot, device=device, dtype=dtype) for slot in slots}).eval()


def load_folder(folder: str | os.PathLike[str]) -> SURAdapter | SURAdapterBundle:
    """Load whichever of the two a folder holds."""
    check_folder(Path(folder))
    kind = SURAdapterBundle if Path(folder, BUNDLE).exists() else SURAdapter
    return kind.from_pretrained(folder)


def check_slot(slot: object) -> None:
    """Refuse a slot that is not the name of an attribute; it also becomes the name of a folder."""
    if not isinstance(slot, str) or not _SLOT.fullmatch(slot):
        raise ValueError(f"the slot {slot!r} is not the name of a pipeline's attribute, such as 'text_encoder_2'")
