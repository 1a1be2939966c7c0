"""The name of a text in a cache: one text has one key, however it was typed."""

import hashlib
import unicodedata


def text_key(text: str) -> bytes:
    r"""Return the SHA-256 of the text's NFC form in UTF-8, 32 bytes.

    Example:
        >>> text_key("cafe\u0301") == text_key("caf\u00e9")
        True
    """
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")).digest()
