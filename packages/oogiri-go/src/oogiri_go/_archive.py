"""The pictures of a folder or of a zip file, by identifier, without trusting a name in it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ._fields import is_image_id
from ._issue import Defect

if TYPE_CHECKING:
    import zipfile

MAX_MEMBERS = 1_000_000
MAX_RATIO = 200
MAX_BYTES = 64 << 20
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_PIECE = 1 << 20


def open_pictures(path: str | os.PathLike[str]) -> "FolderPictures | ZipPictures":
    """Open the pictures of a folder or a zip file.

    A picture's identifier is its file name without a picture's suffix, in whatever folder it lies.

    Args:
        path: A folder or a ``.zip`` file.

    Returns:
        A reader that is also a context manager.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: The file is no zip file, or has more than 1,000,000 members.
    """
    path = Path(path)
    if path.is_dir():
        return FolderPictures(path)
    if path.is_file():
        return ZipPictures(path)
    raise FileNotFoundError(f"there is no folder or zip file {os.fspath(path)!r}")


class _Named:
    """Identifiers and what lies behind them."""

    def __init__(self) -> None:
        self.defects: dict[str, Defect] = {}
        self._places: dict[str, str] = {}

    def _add(self, name: str) -> None:
        """File a member under its identifier; of two with one identifier the first stays, the second is a defect."""
        base = PurePosixPath(name).name
        image_id = base
        for suffix in SUFFIXES:
            if base.lower().endswith(suffix):
                image_id = base[: -len(suffix)]
        if image_id == base and "." in base:
            return  # no picture: a readme, a system's litter
        if not is_image_id(image_id):
            self.defects[name] = Defect("image-id", f"the name {ascii(name)[:80]} is no picture's identifier")
        elif image_id in self._places:
            self.defects[name] = Defect("image-twice", f"{ascii(name)[:80]} repeats {self._places[image_id]!r}")
        else:
            self._places[image_id] = name

    def _place(self, image_id: str) -> str:
        if not is_image_id(image_id):
            raise Defect("image-id", f"{ascii(image_id)[:80]} is no picture's identifier")
        place = self._places.get(image_id)
        if place is None:
            for name, defect in self.defects.items():
                if PurePosixPath(name).name.partition(".")[0] == image_id:
                    raise defect
            raise Defect("image-missing", f"there is no picture {image_id!r}")
        return place

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Close the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class FolderPictures(_Named):
    """Pictures of a folder and its subfolders; links are followed only to places inside it."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root.resolve()
        for folder, folders, files in os.walk(self._root):
            folders.sort()
            for file in sorted(files):
                path = Path(folder, file)
                name = path.relative_to(self._root).as_posix()
                if path.is_symlink() and not path.resolve().is_relative_to(self._root):
                    self.defects[name] = Defect("image-link", f"{ascii(name)[:80]} is a link out of the folder")
                else:
                    self._add(name)

    def read(self, image_id: str) -> bytes:
        """Read a picture's bytes; raise `Defect` where it is missing, refused or broken."""
        path = (self._root / self._place(image_id)).resolve()
        if not path.is_relative_to(self._root):  # the folder may have changed since it was listed
            raise Defect("image-link", f"the picture {image_id!r} lies outside its folder")
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise Defect("image-missing", f"the picture {image_id!r} cannot be read: {error.strerror}") from None
        if len(data) > MAX_BYTES:
            raise Defect("image-size", f"the picture {image_id!r} has more than {MAX_BYTES >> 20} MiB")
        return data


class ZipPictures(_Named):
    """Pictures of a zip file. Nothing is ever extracted; members are read in pieces up to what they declare."""

    def __init__(self, path: Path) -> None:
        import zipfile

        super().__init__()
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)!r} is no readable zip file: {error}") from None
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS:
            self._zip.close()
            raise ValueError(f"{os.fspath(path)!r} has {len(members):,} members; at most {MAX_MEMBERS:,} are read")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            if member.is_dir():
                continue
            self._members.setdefault(member.filename, member)
            defect = _member_defect(member)
            if defect is not None:
                self.defects[member.filename] = defect
            else:
                self._add(member.filename)

    def read(self, image_id: str) -> bytes:
        """Read a picture's bytes; raise `Defect` where it is missing, refused or broken."""
        name = self._place(image_id)
        member = self._members[name]
        pieces, size = [], 0
        try:
            with self._zip.open(member) as file:
                while piece := file.read(_PIECE):
                    size += len(piece)
                    if size > MAX_BYTES:
                        raise Defect("image-size", f"the member {name!r} has more than {MAX_BYTES >> 20} MiB")
                    pieces.append(piece)
        except Defect:
            raise
        except Exception as error:  # zipfile passes on what zlib, lzma and its own parsing raise
            raise Defect("zip-member", f"the member {name!r} does not unpack: {error}") from None
        if size != member.file_size:
            raise Defect("zip-member", f"the member {name!r} declares {member.file_size} bytes and has {size}")
        return b"".join(pieces)

    def close(self) -> None:
        """Close the zip file."""
        self._zip.close()


def _member_defect(member: "zipfile.ZipInfo") -> Defect | None:
    """What speaks against a member, before a byte of it is read."""
    # zipfile cuts a name at NUL and turns the system's separator; the stored name is the one to judge
    name = member.orig_filename
    shown = ascii(name)[:80]
    parts = name.replace("\\", "/").split("/")
    if "\0" in name or name.startswith(("/", "\\")) or ".." in parts or (len(name) > 1 and name[1] == ":"):
        return Defect("zip-path", f"the member {shown} names a path outside the archive")
    if stat.S_ISLNK(member.external_attr >> 16):
        return Defect("zip-link", f"the member {shown} is a symbolic link")
    if member.flag_bits & 1:
        return Defect("zip-encrypted", f"the member {shown} is encrypted")
    if member.file_size > MAX_BYTES:
        return Defect("image-size", f"the member {shown} declares {member.file_size:,} bytes")
    if member.file_size > MAX_RATIO * max(member.compress_size, 1):
        return Defect("zip-bomb", f"the member {shown} unpacks to more than {MAX_RATIO} times its size")
    return None
