"""Pictures from folders, one folder a class, and from torchvision's data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sail_core.extras import needs
from torch import Tensor

from ._splits import Split

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def read_folder(folder: Path, *, size: int) -> tuple[Split, tuple[str, ...]]:
    """Read `folder/<class>/**/*.jpg|png|bmp|webp`, each scaled and cropped in the middle to `size` x `size` RGB.

    Args:
        folder: One subfolder for each class; their sorted names are the classes.
        size: Side of the square pictures in pixels.

    Returns:
        The pictures `(N, 3, size, size)` uint8, in the order of class and path, and the names of the classes.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There are fewer than two classes, a class is empty, or a file is no picture.
        MissingExtra: Pillow is not installed.
    """
    with needs("dia-attention", "demo"):
        from PIL import Image, ImageOps, UnidentifiedImageError
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give the folder of the class folders with --root")
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(classes) < 2:
        raise ValueError(f"{folder} has {len(classes)} class folders; expected at least 2, one for each class")
    images, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in _SUFFIXES)
        if not files:
            raise ValueError(f"{folder / name} holds no picture ({', '.join(sorted(_SUFFIXES))})")
        for path in files:
            try:
                with Image.open(path) as picture:
                    square = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
            except (UnidentifiedImageError, OSError) as error:
                raise ValueError(f"{path} is no whole picture ({error})") from error
            images.append(torch.from_numpy(np.array(square)).permute(2, 0, 1))
            labels.append(label)
    return Split(images=torch.stack(images), labels=torch.tensor(labels), mirror=True), classes


def read_torchvision(name: str, root: Path, *, train: bool) -> tuple[Split, tuple[str, ...]]:
    """Read a torchvision data set that lies below `root`, such as CIFAR10, CIFAR100, MNIST, FashionMNIST or STL10.

    Nothing is downloaded.

    Args:
        name: The class's name in `torchvision.datasets`.
        root: The `root` it is given.
        train: The training or the test part (`train=` or `split=`, whichever the class takes).

    Returns:
        The pictures `(N, C, H, W)` uint8 and the names of the classes.

    Raises:
        ValueError: torchvision has no such data set, it is not below `root`, or its pictures differ in size.
        MissingExtra: torchvision is not installed.
    """
    with needs("dia-attention", "torchvision"):
        from torchvision import datasets  # type: ignore[import-untyped]
    kind = getattr(datasets, name, None) if name in datasets.__all__ else None
    if kind is None:
        raise ValueError(f"torchvision has no data set {name!r}; it has {', '.join(datasets.__all__[:12])}, ...")
    found = _construct(kind, root, train)
    pairs = [found[index] for index in range(len(found))]
    images = [_pixels(picture) for picture, _ in pairs]
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"the pictures of {name} differ in size; lay them out as class folders and use --data folder")
    labels = torch.tensor([int(label) for _, label in pairs])
    names = getattr(found, "classes", None) or [str(label) for label in range(int(labels.max()) + 1)]
    digits = "MNIST" in name and name != "FashionMNIST"
    return Split(images=torch.stack(images), labels=labels, mirror=not (digits or name in ("SVHN", "USPS"))), tuple(
        names
    )


def _construct(kind: Any, root: Path, train: bool) -> Sequence[Any]:
    import inspect

    takes = inspect.signature(kind).parameters
    if "train" in takes:
        which: dict[str, Any] = {"train": train}
    elif "split" in takes:
        which = {"split": "train" if train else "test"}
    else:
        raise ValueError(f"torchvision's {kind.__name__} has no training and test part")
    try:
        found: Sequence[Any] = kind(root, download=False, **which)
    except (RuntimeError, OSError, TypeError) as error:
        raise ValueError(f"torchvision's {kind.__name__} is not whole below {root} ({error})") from error
    return found


def _pixels(picture: Any) -> Tensor:
    """A picture of Pillow as `(C, H, W)` uint8."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
