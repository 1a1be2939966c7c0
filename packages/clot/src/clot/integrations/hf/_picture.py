"""Encoded pictures of unknown origin as RGB."""

import io
import warnings
from typing import TYPE_CHECKING

from ._record_error import RecordError

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_PIXELS = 40_000_000


def open_picture(record_id: str, data: bytes) -> "Image":
    """Decode the first frame of a picture, upright and in RGB.

    Args:
        record_id: Named in the error.
        data: The bytes of the file.

    Returns:
        The loaded picture.

    Raises:
        RecordError: The bytes are no picture, are truncated, or hold more than 40 million pixels.
    """
    from PIL import Image, ImageOps

    with warnings.catch_warnings(action="ignore"):  # Pillow warns of bombs and of EXIF that it decodes all the same
        try:
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels; at most {_MAX_PIXELS:,} are decoded")
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
        except Exception as error:  # Pillow's plugins raise whatever their parsing meets
            raise RecordError(
                record_id, f"its picture of {len(data)} bytes does not load ({error}); replace it or drop the record"
            ) from None
