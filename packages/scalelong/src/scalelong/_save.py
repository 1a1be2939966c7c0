"""Write a model with its scaling, and read it back with it: a file says how its skips were scaled."""

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from sail_core.runs import write_atomic
from torch import Tensor, nn

from ._attach import CONFIG_KEY, attach, attached
from ._scalings import ConstantScale
from ._uvit import UViT
from ._warning import ScalingWarning

Model = TypeVar("Model", bound=nn.Module)
_KEY = "scalelong"


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model and its scaling.

    A diffusers model becomes a directory, as by its ``save_pretrained``; any other model one safetensors file.

    Args:
        model: A model with an attached scaling, or a `UViT`.
        path: Directory or file; an old one is replaced as a whole.

    Raises:
        ValueError: The model has no scaling, so its own way of saving is enough.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from scalelong import load, save
        >>> from scalelong.nn import UViT
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(UViT(8, 2, 1, embed_dim=32, depth=4, num_heads=2, scaling="cs"), Path(folder, "net"))
        ...     load(UViT, Path(folder, "net")).kappas
        (1.0, 0.7)
    """
    handle = attached(model)
    if handle is None and not isinstance(model, UViT):
        raise ValueError(f"this {type(model).__name__} has no scaling; call attach first, or save it as you always do")
    path = Path(path)
    if hasattr(model, "save_pretrained") and hasattr(model, "register_to_config"):
        _save_directory(model, path)
        return
    described = {
        "scaling": None if handle is None else handle.scaling.config,
        "uvit": model.config if isinstance(model, UViT) else None,
    }
    tensors = {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    write_atomic(path, safetensors.torch.save(tensors, metadata={_KEY: json.dumps(described)}))


def _save_directory(model: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
        fresh = Path(folder, "new")
        model.save_pretrained(fresh)
        if path.exists():
            path.rename(Path(folder, "old"))
        fresh.rename(path)


def load(target: type[Model] | Model, path: str | os.PathLike[str]) -> Model:
    """Read what `save` wrote, or what ``save_pretrained`` wrote of a model with a scaling, and scale it as it was.

    Args:
        target: A class of diffusers, `UViT`, or a plain model of the saved architecture, which is changed in place.
        path: The directory or file.

    Returns:
        The model, in eval mode from a diffusers class.

    Raises:
        ValueError: The file is damaged or foreign or does not fit; names no scaling; or names one whose parameters it
            lacks, as when only the plain weights of a model with gates were saved. A model that came is unchanged.
        FileNotFoundError: There is nothing at ``path``.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        return _load_directory(target, path)  # type: ignore[no-any-return]
    described, tensors = _read(path)
    model: Any = target
    if isinstance(target, type):
        if not issubclass(target, UViT) or described["uvit"] is None:
            raise ValueError(f"{path} holds weights only: give a plain {target.__name__}, not its class")
        model = target(**described["uvit"])
    elif attached(target) is not None:
        raise ValueError("the model is scaled already; load wants the plain one: call detach(model) first")
    _check_keys(model, tensors, path, described["scaling"])
    if described["scaling"] is not None:
        _attach_again(model, described["scaling"])
    model.load_state_dict(tensors)
    return model  # type: ignore[no-any-return]


def _check_keys(model: nn.Module, tensors: dict[str, Tensor], path: Path, config: dict[str, Any] | None) -> None:
    here = {name: value.shape for name, value in model.state_dict().items()}
    there = {
        name: value.shape for name, value in tensors.items() if config is None or not name.startswith("scalelong.")
    }
    wrong = [name for name in here.keys() | there.keys() if here.get(name) != there.get(name)]
    if wrong:
        first = min(wrong)
        raise ValueError(
            f"{path} does not fit this {type(model).__name__}: {first} has shape {there.get(first, 'none')} there and "
            f"{here.get(first, 'none')} here ({len(wrong)} such names)"
        )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError(f"{path} was not written by scalelong.save: its metadata have no {_KEY!r}")
            described = json.loads(metadata[_KEY])
            described = {"scaling": described["scaling"], "uvit": described["uvit"]}
            return described, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error})") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: the description of its scaling is damaged ({error!r})") from error


def _load_directory(target: Any, path: Path) -> Any:
    if not isinstance(target, type) or not hasattr(target, "from_pretrained"):
        raise ValueError(f"{path} is a directory: give the class of diffusers that wrote it, not {target!r:.80}")
    config = target.load_config(path).get(CONFIG_KEY)  # type: ignore[attr-defined]
    if config is None:
        raise ValueError(f"the config in {path} names no scaling: use {target.__name__}.from_pretrained")
    with _without_remarks():
        model = target.from_pretrained(path)
    ours = _ours(path)
    _attach_again(model, config)
    expected = {name for name in model.state_dict() if name.startswith("scalelong.")}
    if isinstance(attached(model).scaling.scale, ConstantScale):  # type: ignore[union-attr]
        if ours:  # an EMA writes none of them; the config has them too, but a state dict may have replaced them since
            model.load_state_dict(ours, strict=False)
        return model.eval()
    if ours.keys() != expected:
        raise ValueError(
            f"the config in {path} names the scaling {config['mode']!r}, and its parameters are missing from the "
            "weights: an EMA or another tool saved a copy of the model without them; save the attached model itself"
        )
    model.load_state_dict(ours, strict=False)
    return model.eval()


def _ours(path: Path) -> dict[str, Tensor]:
    """The tensors of the scaling among all weight files of a directory."""
    found: dict[str, Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as content:
            names = [name for name in content.keys() if name.startswith("scalelong.")]  # noqa: SIM118
            found |= {name: content.get_tensor(name) for name in names}
    return found


def _attach_again(model: nn.Module, config: dict[str, Any]) -> None:
    values: list[float] = config.get("values") or []
    mode = (lambda index, count: values[index - 1]) if config["mode"] == "function" else config["mode"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a small kappa was warned of when it was chosen
        handle = attach(
            model,
            mode,
            kappa=config["kappa"],
            sites=config["sites"],
            mutable=config["mutable"],
            allow_gt1=config["allow_gt1"],
            reduction=config["reduction"],
            tokens=config.get("tokens"),
        )
    if len(handle.sites) != config["count"]:
        handle.detach()
        raise ValueError(
            f"{config['count']} skips were scaled when this was saved, and the model has {len(handle.sites)}"
        )


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Silence what diffusers says of the entries that it does not know and that this module reads itself."""
    import logging as standard

    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(standard.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


__all__ = ["ScalingWarning", "load", "save"]
