"""The picture of a record's prompt."""

import io
from collections.abc import Mapping

from oogiri_go import Record


def picture_of(record: Record, pictures: Mapping[str, bytes] | None) -> bytes | None:
    """Give the encoded picture of a record's prompt, None where it has none.

    Raises:
        ValueError: There is no such picture.
    """
    if record.image is None:
        return None
    if pictures is None or record.image not in pictures:
        raise ValueError(f"its picture {record.image!r} is missing")
    return pictures[record.image]


def checked_picture(record: Record, pictures: Mapping[str, bytes] | None) -> bytes | None:
    """Give the same, once it has been decoded.

    Raises:
        ValueError: There is no such picture, or it does not load.
    """
    data = picture_of(record, pictures)
    if data is None:
        return None
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception as error:  # Pillow's plugins raise whatever they like
        raise ValueError(f"its picture {record.image!r} does not load: {type(error).__name__}") from None
    return data
