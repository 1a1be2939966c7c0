"""The generation parameters that the web interface writes into its images."""

import io
import re
from dataclasses import dataclass

from sail_core.extras import needs

_SETTING = re.compile(r'\s*([\w ]+):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_USER_COMMENT, _EXIF_IFD = 0x9286, 0x8769


@dataclass(frozen=True)
class Infotext:
    """Prompt, negative prompt and settings by name."""

    prompt: str
    negative: str
    settings: dict[str, str]


def parse_infotext(text: str) -> Infotext:
    r"""Split generation parameters: the prompt, ``Negative prompt: ...``, and a last line ``Steps: 20, Sampler: ...``.

    Example:
        >>> found = parse_infotext("a cat,\nred\nNegative prompt: blurry\nSteps: 20, Size: 512x512")
        >>> found.prompt, found.negative, found.settings["Size"]
        ('a cat,\nred', 'blurry', '512x512')
    """
    lines = text.strip().split("\n")
    settings: dict[str, str] = {}
    if len(_SETTING.findall(lines[-1])) >= 3 or lines[-1].startswith("Steps:"):
        settings = {name.strip(): value.strip('"') for name, value in _SETTING.findall(lines.pop())}
    whole = "\n".join(lines)
    prompt, _, negative = whole.partition("Negative prompt:")
    return Infotext(prompt.strip(), negative.strip(), settings)


def read_infotext(file: bytes) -> str | None:
    """Return the generation parameters in an image: of PNG the text ``parameters``, of others the EXIF user comment.

    Args:
        file: The image's bytes.

    Returns:
        The text, or None when there is none.

    Raises:
        ValueError: It is no image.
    """
    with needs("sur-adapter", "train"):
        from PIL import Image
    try:
        with Image.open(io.BytesIO(file)) as image:
            image.load()
            found = image.info.get("parameters")
            comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"this is no image ({error})") from error
    if isinstance(found, str):
        return found
    if isinstance(comment, bytes) and comment[8:]:
        coding = {b"UNICODE\0": "utf-16-be", b"ASCII\0\0\0": "ascii"}.get(comment[:8], "utf-8")
        return comment[8:].decode(coding, errors="replace")
    return comment if isinstance(comment, str) and comment else None
