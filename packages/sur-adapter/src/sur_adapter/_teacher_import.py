"""Read the authors' teacher files (``39.pt``) into a teacher cache."""

import os
import pickle
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor

from ._teacher_cache import TeacherFacts
from ._teacher_store import TeacherStore

_SHARD = 4096


def import_teacher(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    model: str,
    layer: str,
    pooling: str | None = None,
) -> int:
    """Turn the authors' dictionary of texts and vectors into a cache; nothing in the file is executed.

    Args:
        source: A ``.pt`` file: a dictionary of texts and vectors of one width.
        folder: The cache; made when missing, continued when not.
        model: Which model made the vectors; the file does not say.
        layer: Which layer: the authors' block 39, counted from 0, is ``"40:raw"``.
        pooling: How tokens became one vector; the authors do not say: None.

    Returns:
        The vectors added; those that the cache had already do not count.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such dictionary, or would have to be executed.

    Example:
        >>> import tempfile
        >>> from sur_adapter import TeacherCache
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"a cat": torch.tensor([1.0, 2.0])}, Path(folder, "39.pt"))
        ...     print(import_teacher(Path(folder, "39.pt"), Path(folder, "cache"), model="llama-13b", layer="40:raw"))
        ...     print(TeacherCache(Path(folder, "cache"))["a cat"])
        1
        tensor([1., 2.])
    """
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give a teacher file such as 39.pt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, BadZipFile, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} holds more than tensors, or is damaged, and was not loaded ({reason})") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a dictionary of texts and vectors")
    first = next(iter(content.values()))
    for text, vector in content.items():
        if not isinstance(text, str) or not isinstance(vector, Tensor) or vector.ndim != 1:
            raise ValueError(f"{path}: entry {text!r} is no text with a vector")
        if vector.shape != first.shape or vector.dtype != first.dtype:
            raise ValueError(
                f"{path}: {text!r} has {tuple(vector.shape)} {vector.dtype}, the first {tuple(first.shape)}"
            )
    dtype = str(first.dtype).removeprefix("torch.")
    store = TeacherStore(folder, TeacherFacts(model=model, layer=layer, pooling=pooling, dtype=dtype, dim=len(first)))
    missing = store.missing(list(content))
    for start in range(0, len(missing), _SHARD):
        part = missing[start : start + _SHARD]
        store.add(part, [content[text] for text in part])
    return len(missing)
