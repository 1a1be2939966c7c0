"""Pictures that look the same."""

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT = 9, 8
HAMMING = 4
COLOUR = 6.0
_BANDS = (13, 13, 13, 13, 12)


class Look(msgspec.Struct, frozen=True):
    """How a picture looks: 64 bits of horizontal differences and a thumbnail of 9 x 8 RGB values.

    The bits alone would call all plain surfaces alike; the thumbnail tells a red one from a blue one.
    """

    dhash: int
    thumbnail: bytes

    def like(self, other: "Look") -> bool:
        """Whether at most 4 bits differ, and the thumbnails by at most 6 of 255 on average."""
        if (self.dhash ^ other.dhash).bit_count() > HAMMING:
            return False
        difference = sum(abs(a - b) for a, b in zip(self.thumbnail, other.thumbnail, strict=True))
        return difference <= COLOUR * len(self.thumbnail)


def look(image: "Image.Image") -> Look:
    """Compute the look of an RGB picture; size and compression hardly change it.

    bit(x, y) = [g(x, y) > g(x + 1, y)], g the grey values of the picture averaged to 9 x 8

    Args:
        image: A picture in mode RGB.

    Returns:
        Its look.

    Example:
        >>> from PIL import Image
        >>> red, blue = (look(Image.new("RGB", (64, 48), colour)) for colour in ("red", "blue"))
        >>> red.dhash == blue.dhash, red.like(blue)
        (True, False)
    """
    from PIL import Image

    small = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX, reducing_gap=2.0)
    grey = small.convert("L").tobytes()
    bits = 0
    for row in range(0, WIDTH * HEIGHT, WIDTH):
        for at in range(row, row + WIDTH - 1):
            bits = bits << 1 | (grey[at] > grey[at + 1])
    return Look(bits, small.tobytes())


class LookIndex:
    """Pictures seen so far. A new one belongs to the first that it looks like, or stands for itself."""

    def __init__(self) -> None:
        self._leaders: list[tuple[str, Look]] = []
        self._bands: dict[tuple[int, int], list[int]] = {}

    def leader(self, name: str, new: Look) -> str:
        """Give the name of the earliest leader that ``new`` looks like; without one, ``new`` becomes a leader.

        Of two words of 64 bits that differ in at most 4, at least one of 5 parts is equal, so no leader is missed.
        Which leader a picture has depends on earlier pictures only.
        """
        keys = list(_parts(new.dhash))
        candidates = {at for key in keys for at in self._bands.get(key, ())}
        for at in sorted(candidates):
            found, old = self._leaders[at]
            if old.like(new):
                return found
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._leaders))
        self._leaders.append((name, new))
        return name


def _parts(bits: int) -> list[tuple[int, int]]:
    parts = []
    for at, width in enumerate(_BANDS):
        parts.append((at, bits & ((1 << width) - 1)))
        bits >>= width
    return parts
