"""An adapter's folder in the layout of diffusers: config.json and diffusion_pytorch_model.safetensors.

The config is flat: ``_class_name``, the options of the constructor, the fields of the provenance, ``format_version``.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from sail_core.runs import write_atomic
from torch import Tensor

from ._provenance import Provenance

if TYPE_CHECKING:
    from ._adapter import SURAdapter

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
OPTIONS = (
    *("hidden_size", "depth", "num_heads", "ff_dim", "scale", "mixing", "residual", "dropout"),
    *("low_rank", "mask_padding", "init"),
)
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


def describe(adapter: SURAdapter) -> dict[str, Any]:
    """Return the options and the provenance of an adapter, as config.json has them."""
    options = {name: getattr(adapter, name) for name in OPTIONS}
    return {**options, **asdict(adapter.provenance), "format_version": FORMAT_VERSION}


def packed(adapter: SURAdapter) -> dict[str, bytes]:
    """Return the files of an adapter's folder, the weights first."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in adapter.state_dict().items()}
    config = {"_class_name": "SURAdapterModel", **describe(adapter)}
    return {
        WEIGHTS: safetensors.torch.save(tensors, metadata={"format": "pt"}),
        CONFIG: (json.dumps(config, indent=2, allow_nan=False) + "\n").encode(),
    }


def write_adapter(folder: Path, adapter: SURAdapter) -> None:
    """Write an adapter's folder."""
    write_folder(folder, packed(adapter))


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder: a new one appears whole, in an existing one each file is replaced atomically."""
    if folder.exists():
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file; give a folder to save to")
        for name, data in files.items():
            write_atomic(folder / name, data)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".tmp-{secrets.token_hex(6)}")
    try:
        for name, data in files.items():
            write_atomic(temporary / name, data)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_adapter(folder: Path) -> tuple[dict[str, Any], Provenance, dict[str, Tensor]]:
    """Read an adapter's folder: the constructor's options, the provenance, the weights."""
    check_folder(folder)
    config = read_json(folder / CONFIG)
    if (version := config.get("format_version")) != FORMAT_VERSION:
        raise ValueError(f"{folder / CONFIG}: format_version is {version!r}; this version reads {FORMAT_VERSION}")
    known = {field.name for field in fields(Provenance)}
    if unknown := sorted(name for name in config if not name.startswith("_") and name not in _names(known)):
        raise ValueError(f"{folder / CONFIG}: unknown entry {unknown[0]!r}")
    options = {name: config[name] for name in OPTIONS if name in config}
    if "hidden_size" not in options:
        raise ValueError(f"{folder / CONFIG}: hidden_size is missing")
    return options, Provenance(**{name: config.get(name) for name in known}), read_weights(folder / WEIGHTS)


def check_folder(folder: Path) -> None:
    """Refuse what is not a local folder, in words that no download could mend."""
    if folder.suffix in PICKLES:
        raise ValueError(f"{folder}: pickles are not loaded; `sur-adapter convert` turns the authors' into a folder")
    if folder.is_file():
        raise ValueError(f"{folder} is a file; give the folder that holds {CONFIG} and {WEIGHTS}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} (absolute: {folder.absolute()}); nothing is downloaded")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.parent} holds no {path.name}; is it an adapter's folder?") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); save the adapter again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected an object")
    return content


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, whole."""
    if not path.exists():
        if pickles := sorted(one.name for one in path.parent.iterdir() if one.suffix in PICKLES):
            raise ValueError(
                f"{path.parent} holds {pickles[0]} and no {WEIGHTS}: pickles are not loaded; `sur-adapter convert` "
                "turns the authors' into a folder"
            )
        raise FileNotFoundError(f"{path.parent} holds no {WEIGHTS}; is it an adapter's folder?")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); save or copy it again") from error


def _names(provenance: set[str]) -> set[str]:
    return {*OPTIONS, *provenance, "format_version"}
