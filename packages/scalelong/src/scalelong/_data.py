"""Training pictures as one tensor in memory: handwritten digits, CIFAR-10 from its JPEG archive, or a folder."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from sail_core.extras import needs
from torch import Tensor

_SPLIT_SEED = 20260101  # which digits are held out belongs to the data, not to a run
_HELD_OUT = 297
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_LARGEST_MEMBER = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Images:
    """Pictures with what a model may be conditioned on.

    Attributes:
        pixels: ``(N, C, H, W)``, float32 in [-1, 1].
        labels: ``(N,)``, int64 from 0, or None.
        context: ``(N, n, D)``, float32 text tokens of each picture, or None.
    """

    pixels: Tensor
    labels: Tensor | None = None
    context: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor | slice) -> "Images":
        """Return the chosen rows."""
        return Images(
            pixels=self.pixels[rows],
            labels=None if self.labels is None else self.labels[rows],
            context=None if self.context is None else self.context[rows],
        )

    def to(self, device: torch.device) -> "Images":
        """Return the same pictures on another device."""
        return Images(
            pixels=self.pixels.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            context=None if self.context is None else self.context.to(device),
        )


def load_images(source: str, *, size: int | None = None, split: str = "train") -> Images:
    """Read pictures by the name of their source.

    Args:
        source: ``"digits"`` (scikit-learn's, 8 x 8, one channel), a ``*.tar.xz`` of ``train|test/<class>/<id>.jpg``
            (CIFAR-10 as JPEG), or a folder of pictures, whose subfolders, if it has any, are the classes. A file
            ``context.safetensors`` in the folder gives each picture's text tokens: one tensor ``(n, D)`` under the
            picture's path relative to the folder.
        size: Side in pixels after a centre crop and a resize; None keeps 8 for digits, 32 for the archive, and is
            refused for a folder.
        split: ``"train"`` or ``"test"``. A folder holds one split: it is the source itself, or its subfolder of that
            name where there is one.

    Returns:
        The pictures.

    Raises:
        ValueError: The source holds no picture, a picture cannot be read, the split is another word, or there is no
            text for a picture.
        FileNotFoundError: There is no such file or folder.
        MissingExtra: scikit-learn (extra demo) or Pillow (extra train) is not installed.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; it must be 'train' or 'test'")
    if source == "digits":
        if size not in (None, 8):
            raise ValueError(f"the digits are 8 x 8; size {size} needs another source")
        return _digits()[split]
    path = Path(source)
    if path.name.endswith(".tar.xz"):
        return _archive(path, size or 32, split)
    if not path.is_dir():
        raise FileNotFoundError(f"{source}: neither 'digits', a *.tar.xz archive nor a folder of pictures")
    if size is None:
        raise ValueError("a folder of pictures needs a size")
    return _folder(path / split if (path / split).is_dir() else path, size)


def batch_indices(count: int, batch_size: int, step: int, *, seed: int) -> Tensor:
    """Return the rows of one step's batch, a pure function of its arguments.

    Every epoch is a new permutation; a batch may straddle two epochs, so all batches have the same size.

    Args:
        count: Pictures there are.
        batch_size: Rows to give.
        step: Counts from 0.
        seed: The run's seed.

    Returns:
        ``(batch_size,)`` int64.

    Example:
        >>> both = torch.cat([batch_indices(6, 4, step, seed=0) for step in range(3)])
        >>> sorted(both.tolist())
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    """
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // count
    rows = torch.empty(batch_size, dtype=torch.int64)
    for epoch in sorted(set(epochs.tolist())):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        rows[epochs == epoch] = order[positions[epochs == epoch] % count]
    return rows


@cache
def _digits() -> dict[str, Images]:
    with needs("scalelong", "demo"):
        from sklearn.datasets import load_digits
    load: Any = load_digits
    raw = load()
    pixels = torch.from_numpy(raw.images).to(torch.float32).unsqueeze(1) / 8 - 1
    everything = Images(pixels=pixels, labels=torch.from_numpy(raw.target).to(torch.int64))
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return {"test": everything[order[:_HELD_OUT]], "train": everything[order[_HELD_OUT:]]}


def _archive(path: Path, size: int, split: str) -> Images:
    pixels, classes = [], []
    with tarfile.open(path, mode="r|xz") as archive:  # read as a stream: nothing is written to the disk
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if not member.isfile() or len(parts) != 3 or parts[0] != split:
                continue
            if member.size > _LARGEST_MEMBER:
                raise ValueError(f"{path}: {member.name} has {member.size} bytes, more than a small picture")
            stream = archive.extractfile(member)
            assert stream is not None, "a file has a stream"
            pixels.append(_decode(stream.read(), size, f"{path}: {member.name}"))
            classes.append(parts[1])
    return _labelled(pixels, classes, f"{path} has no picture {split}/<class>/<name>")


def _folder(path: Path, size: int) -> Images:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    pixels = [_decode(file.read_bytes(), size, str(file)) for file in files]
    classes = [file.relative_to(path).parts[0] if file.parent != path else "" for file in files]
    images = _labelled(pixels, classes, f"{path} holds no picture ({', '.join(sorted(_SUFFIXES))})")
    text = path / "context.safetensors"
    if not text.exists():
        return images
    return Images(pixels=images.pixels, labels=images.labels, context=torch.stack(list(_context(text, path, files))))


def _context(text: Path, path: Path, files: list[Path]) -> Iterator[Tensor]:
    from safetensors import safe_open

    with safe_open(text, framework="pt") as tensors:
        known = set(tensors.keys())
        for file in files:
            name = file.relative_to(path).as_posix()
            if name not in known:
                raise ValueError(f"{text} has no tokens for {name}")
            yield tensors.get_tensor(name).float()


def _labelled(pixels: list[Tensor], classes: list[str], empty: str) -> Images:
    if not pixels:
        raise ValueError(empty)
    names = {name: index for index, name in enumerate(sorted(set(classes)))}
    labels = torch.tensor([names[name] for name in classes]) if len(names) > 1 else None
    return Images(pixels=torch.stack(pixels), labels=labels)


def _decode(data: bytes, size: int, name: str) -> Tensor:
    """One RGB picture ``(3, size, size)`` in [-1, 1]: the largest centred square, resized."""
    with needs("scalelong", "train"):
        import numpy as np
        from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: not a picture that can be read ({error})") from error
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    if side != size:
        square = square.resize((size, size), Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).to(torch.float32) / 127.5 - 1
