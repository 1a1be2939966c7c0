"""CIFAR-10 from one archive of JPEG files, decoded once into a cache that the user names."""

import io
import json
import re
import tarfile
from hashlib import file_digest
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from sail_core.extras import needs
from sail_core.runs import write_atomic

from ._splits import Split

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar10-jpeg.tar.xz"
_NAME = re.compile(rf"(?:\./)?(train|test)/({'|'.join(CLASSES)})/\w{{1,32}}\.jpe?g")
_MOST_BYTES, _MOST_FILES = 64 * 1024, 60_000  # of one picture; in the archive
_KEY = "cifar10_jpeg"


def read_cifar10(archive: Path, *, cache: Path | None = None) -> dict[str, Split]:
    """Read the splits `train` (50,000 pictures) and `test` (10,000) from an archive of JPEG files.

    The archive is a tar file, compressed or not, of `train|test/<class>/<name>.jpg`, 32 x 32 RGB. It is read as a
    stream and never unpacked: a member that is no such file, is larger than 64 KiB, or is one too many is refused, and
    no picture is decoded before its format and size are known.

    Args:
        archive: The file, or a folder that holds `cifar10-jpeg.tar.xz`.
        cache: A folder for the decoded pictures, 184 MB, or None to decode every time (about five seconds). The file in
            it appears whole or not at all, and is made anew where it is damaged or belongs to another archive.

    Returns:
        `{"train": ..., "test": ...}`, images `(N, 3, 32, 32)` uint8, in the order of class and name.

    Raises:
        FileNotFoundError: There is no archive.
        ValueError: The archive is damaged or holds something else.
        MissingExtra: Pillow is not installed.
    """
    if archive.is_dir():
        archive = archive / ARCHIVE
    if not archive.is_file():
        raise FileNotFoundError(
            f"there is no CIFAR-10 archive at {archive}: give its file or folder with --root, "
            f"or set SAIL_DATA to the folder that holds cifar10/{ARCHIVE}"
        )
    if cache is None:
        return _splits(_decode(archive))
    with archive.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    path = cache / f"cifar10-{digest[:16]}.safetensors"
    tensors = _read_cache(path, digest)
    if tensors is None:
        tensors = _decode(archive)
        write_atomic(path, safetensors.torch.save(tensors, metadata={_KEY: json.dumps({"archive": digest})}))
    return _splits(tensors)


def _splits(tensors: dict[str, torch.Tensor]) -> dict[str, Split]:
    return {
        name: Split(images=tensors[f"{name}.images"], labels=tensors[f"{name}.labels"], mirror=True)
        for name in ("train", "test")
    }


def _read_cache(path: Path, digest: str) -> dict[str, torch.Tensor] | None:
    """The tensors of a cache file, or None where there is none, or none of this archive that is whole."""
    try:
        with safe_open(path, framework="pt") as file:
            if json.loads((file.metadata() or {})[_KEY])["archive"] != digest:
                return None
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _decode(archive: Path) -> dict[str, torch.Tensor]:
    found: dict[str, list[tuple[str, int, np.ndarray]]] = {"train": [], "test": []}
    count = 0
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                if member.isdir():
                    continue
                count += 1
                match = _NAME.fullmatch(member.name)
                if not match or not member.isreg() or member.size > _MOST_BYTES or count > _MOST_FILES:
                    raise ValueError(
                        f"{archive}: {member.name[:80]!r} ({member.size} bytes) is no member of this data set; "
                        f"expected at most {_MOST_FILES} files train|test/<class>/<name>.jpg of {_MOST_BYTES} bytes"
                    )
                file = tar.extractfile(member)
                assert file is not None, "a regular member has content"
                pixels = _picture(file.read(), f"{archive}: {member.name}")
                found[match[1]].append((member.name, CLASSES.index(match[2]), pixels))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{archive} cannot be read as a tar archive ({error}); fetch it again") from error
    if empty := [name for name, members in found.items() if not members]:
        raise ValueError(f"{archive} has no pictures below {empty[0]}/")
    tensors = {}
    for name, members in found.items():
        members.sort(key=lambda one: (one[1], one[0]))
        tensors[f"{name}.images"] = torch.from_numpy(np.stack([pixels for *_, pixels in members])).permute(0, 3, 1, 2)
        tensors[f"{name}.images"] = tensors[f"{name}.images"].contiguous()
        tensors[f"{name}.labels"] = torch.tensor([label for _, label, _ in members])
    return tensors


def _picture(content: bytes, name: str) -> np.ndarray:
    """Decode one JPEG of 32 x 32 RGB pixels to `(32, 32, 3)` uint8."""
    with needs("dia-attention", "demo"):
        from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
            if picture.size != (32, 32) or picture.mode != "RGB":
                raise ValueError(f"{name} is {picture.size} {picture.mode}, expected (32, 32) RGB")
            return np.asarray(picture)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{name} is no whole JPEG picture ({error})") from error
