"""The data set that a name stands for: training and validation images, and, apart from them, test images."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from . import _cifar10, _folders
from ._composites import composites, composites_test, photographs
from ._digits import digits, digits_test
from ._splits import Data, Split, divide

NAMES = ("digits", "digits-on-photographs", "digits-on-cifar10", "cifar10", "folder", "torchvision:NAME")
_VALIDATION_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which images, and where they lie.

    Attributes:
        data: One of `NAMES`, NAME a class of torchvision.datasets.
        root: Where they lie: the archive of CIFAR-10 or its folder, the folder of the class folders (or of `train` and
            `test` with class folders each), torchvision's root. None is `cifar10` below SAIL_DATA.
        cache: Where CIFAR-10 is kept decoded; None decodes it in every process.
        size: Side of the images in pixels; None is their own, 16 for composites, 32 for folders.
    """

    data: str
    root: Path | None = None
    cache: Path | None = None
    size: int | None = None

    def load(self, *, seed: int, per_class: int | None = None, validation_per_class: int | None = None) -> Data:
        """The training and validation images of one seed.

        Raises:
            ValueError: The name, the size or the number of images is out of range, or the files are damaged.
            FileNotFoundError: The files are not there.
            MissingExtra: A library that reads them is not installed.
        """
        if self.data in ("digits", "digits-on-photographs", "digits-on-cifar10"):
            if validation_per_class is not None:
                raise ValueError(f"the digits have 30 validation images a class; leave out {validation_per_class=}")
            if self.data == "digits":
                self._own_size(8)
                return digits(seed=seed, per_class=per_class)
            return composites(self._pictures("train"), seed=seed, size=self.size or 16, per_class=per_class)
        everything, classes = self._part("train")
        smallest = int(everything.labels.bincount(minlength=len(classes)).min())
        share = max(1, round(_VALIDATION_SHARE * smallest)) if validation_per_class is None else validation_per_class
        return divide(everything, classes, seed=seed, validation_per_class=share, per_class=per_class)

    def load_test(self, *, per_class: int | None = None) -> Split:
        """The test images, which do not depend on a seed: the first `per_class` of each class, or all.

        Raises:
            ValueError: There is no test part, or as `load`.
            FileNotFoundError: The files are not there.
            MissingExtra: A library that reads them is not installed.
        """
        if self.data == "digits":
            split = digits_test()
        elif self.data in ("digits-on-photographs", "digits-on-cifar10"):
            split, _ = composites_test(self._pictures("test"), size=self.size or 16)
        else:
            split, _ = self._part("test")
        if per_class is None:
            return split
        labels = split.labels
        return split.select(
            torch.cat([(labels == one).nonzero().flatten()[:per_class] for one in range(int(labels.max()) + 1)])
        )

    def load_masks(self) -> tuple[Split, torch.Tensor]:
        """Test images with the mask of their evidence, for the composites.

        Raises:
            ValueError: The data set has no masks.
        """
        if not self.data.startswith("digits-on-"):
            raise ValueError(f"{self.data!r} has no masks; digits-on-photographs and digits-on-cifar10 have")
        return composites_test(self._pictures("test"), size=self.size or 16)

    def _pictures(self, part: str) -> Split:
        return photographs(part) if self.data == "digits-on-photographs" else _cifar(self._archive(), self.cache)[part]

    def _part(self, part: str) -> tuple[Split, tuple[str, ...]]:
        kind, _, name = self.data.partition(":")
        if self.data == "cifar10":
            return _resized(_cifar(self._archive(), self.cache)[part], self.size), _cifar10.CLASSES
        if self.data == "folder":
            root = self._given_root()
            divided = (root / "train").is_dir()
            if part == "test" and not (root / "test").is_dir():
                raise ValueError(f"{root} has no test folder beside train; put the test pictures there")
            return _folders.read_folder(root / part if divided or part == "test" else root, size=self.size or 32)
        if kind == "torchvision" and name:
            split, classes = _folders.read_torchvision(name, self._given_root(), train=part == "train")
            return _resized(split, self.size), classes
        raise ValueError(f"data is {self.data!r}; it must be one of {', '.join(NAMES)}")

    def _archive(self) -> Path:
        if self.root is not None:
            return self.root
        if "SAIL_DATA" not in os.environ:
            raise FileNotFoundError(
                f"CIFAR-10 lies nowhere: give the folder of {_cifar10.ARCHIVE} with --root, or set SAIL_DATA to the "
                "folder that holds cifar10/"
            )
        return Path(os.environ["SAIL_DATA"]) / "cifar10"

    def _given_root(self) -> Path:
        if self.root is None:
            raise ValueError(f"data {self.data!r} needs --root, the folder it lies in")
        return self.root

    def _own_size(self, size: int) -> None:
        if self.size not in (None, size):
            raise ValueError(f"size is {self.size}, and the images of {self.data!r} are {size} x {size}")


@cache
def _cifar(archive: Path, cache: Path | None) -> dict[str, Split]:
    return _cifar10.read_cifar10(archive, cache=cache)


def _resized(split: Split, size: int | None) -> Split:
    """The split with square images of another side, by averaging areas."""
    if size is None or split.images.shape[-2:] == (size, size):
        return split
    if size < 4:
        raise ValueError(f"size is {size}: give at least 4 pixels")
    parts = [F.interpolate(part.float(), (size, size), mode="area") for part in torch.split(split.images, 5000)]
    return Split(images=torch.cat(parts).round().to(torch.uint8), labels=split.labels, mirror=split.mirror)
