"""Pictures of unknown origin: bombs and truncation are found before they hurt, and everything opens as RGB."""

import io
import struct
import warnings
from typing import TYPE_CHECKING, Literal

import msgspec

from ._issue import Defect
from ._phash import Look, look

if TYPE_CHECKING:
    from PIL import Image

Check = Literal["header", "decode"]

MAX_PIXELS = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_ORIENTATION = 0x0112


class Picture(msgspec.Struct, frozen=True):
    """What a look at a picture's bytes told.

    Attributes:
        format: ``"JPEG"``, ``"PNG"``, ``"WEBP"``, ``"GIF"`` or ``"BMP"``.
        width: Width in pixels.
        height: Height in pixels.
        mode: Pillow's mode, such as ``"RGB"``, ``"CMYK"`` or ``"I;16"``.
        frames: Number of frames.
        plain: Whether any reader gets the same RGB picture from the bytes as they are.
    """

    format: str
    width: int
    height: int
    mode: str
    frames: int
    plain: bool


def inspect(data: bytes, *, check: Check = "decode") -> Picture:
    """Look at a picture without trusting it.

    The header is read first: more than 40 million pixels are refused before anything is decoded. ``"decode"`` then
    really decodes the first frame, because a truncated file passes Pillow's ``verify()``.

    Args:
        data: The bytes of the file.
        check: ``"header"`` or ``"decode"``.

    Returns:
        What was found.

    Raises:
        Defect: The bytes are no such picture, too large, or truncated; ``code`` says which.
    """
    with _quiet():
        image, picture = _opened(data)
        if check == "decode":
            _load(image)
        return picture


def inspect_look(data: bytes) -> tuple[Picture, Look]:
    """`inspect`, decoded, and how the picture looks."""
    with _quiet():
        image, picture = _opened(data)
        _load(image)
        return picture, look(_rgb(image))


def open_rgb(data: bytes) -> "Image.Image":
    """Decode the first frame of a picture as RGB.

    CMYK and palettes are converted, 16 bits become 8, transparency is laid on white, and the orientation that EXIF
    names is applied; EXIF that cannot be read is ignored.

    Args:
        data: The bytes of the file.

    Returns:
        A loaded picture in mode RGB.

    Raises:
        Defect: As `inspect`.

    Example:
        >>> from PIL import Image
        >>> buffer = io.BytesIO()
        >>> Image.new("CMYK", (4, 3)).save(buffer, "JPEG")
        >>> open_rgb(buffer.getvalue()).mode
        'RGB'
    """
    with _quiet():
        image, _ = _opened(data)
        _load(image)
        return _upright(_rgb(image), image)


def plain_bytes(data: bytes, picture: Picture) -> bytes:
    """The bytes to keep: as they are where every reader can take them, else the RGB picture encoded anew."""
    if picture.plain:
        return data
    buffer = io.BytesIO()
    image = open_rgb(data)
    image.info.clear()
    if picture.format == "JPEG":
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        image.save(buffer, "PNG")
    return buffer.getvalue()


def _quiet() -> "warnings.catch_warnings[None]":
    """Pillow warns of broken EXIF and of bombs that it decodes all the same; both are judged here."""
    return warnings.catch_warnings(action="ignore")


def _opened(data: bytes) -> "tuple[Image.Image, Picture]":
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Defect("image-bomb", str(error)) from None
    except UnidentifiedImageError:
        raise Defect("image-format", f"{len(data)} bytes that are no JPEG, PNG, WebP, GIF or BMP") from None
    except Exception as error:  # Pillow's plugins raise whatever their parsing meets
        raise Defect("image-format", f"no readable JPEG, PNG, WebP, GIF or BMP: {_words(error)}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Defect("image-bomb", f"{width} x {height} pixels; at most {MAX_PIXELS:,} are decoded")
    if width * height == 0:
        raise Defect("image-format", f"{width} x {height} pixels")
    try:
        frames = int(getattr(image, "n_frames", 1))
    except Exception:  # counting frames reads the whole file; the first frame may still be good
        frames = 1
    plain = frames == 1 and image.mode in ("RGB", "L") and image.format != "BMP" and _exif_is_harmless(image)
    return image, Picture(image.format or "", width, height, image.mode, frames, plain)


def _exif_is_harmless(image: "Image.Image") -> bool:
    """Whether a reader that turns warnings into errors and applies the orientation gets the picture as it is stored."""
    from PIL import Image

    if "exif" not in image.info and "XML:com.adobe.xmp" not in image.info and "xmp" not in image.info:
        return True
    try:
        with warnings.catch_warnings(action="error"):
            Image.Exif().load(image.info.get("exif", b""))
            return image.getexif().get(_ORIENTATION) in (None, 1)
    except Exception:  # broken EXIF raises SyntaxError, struct.error, UnicodeDecodeError and more
        return False


def _load(image: "Image.Image") -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise Defect("image-truncated", f"the picture does not decode: {_words(error)}") from None


def _rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        words = image.tobytes()
        at = 0 if image.mode == "I;16B" else 1
        return Image.frombytes("L", image.size, words[at::2]).convert("RGB")
    if image.mode in ("I", "F"):
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, over).convert("RGB")
    return image.convert("RGB")


def _upright(rgb: "Image.Image", original: "Image.Image") -> "Image.Image":
    from PIL import Image, ImageOps

    try:
        orientation = original.getexif().get(_ORIENTATION, 1)
    except Exception:  # see _exif_is_harmless
        return rgb
    if orientation in (None, 1):
        return rgb
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    turned = rgb.copy()
    turned.info["exif"] = exif.tobytes()
    try:
        return ImageOps.exif_transpose(turned)
    except (ValueError, TypeError, KeyError, struct.error):
        return rgb


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
