"""The rules for one line: what is coerced, what is accepted, and what is a defect."""

import json
import re
import unicodedata
from typing import Any

import msgspec

from ._issue import Defect
from ._record import GAMES, Language, Record, language, record_id

MAX_TEXT = 2_000
MAX_STAR = 2**63 - 1

_decode = msgspec.json.Decoder().decode
_IMAGE_ID = re.compile(r"[\w.-]{1,128}")
_INTEGER = re.compile(r"[0-9]{1,19}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_KANA = re.compile("[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
_OWN = {"type", "question", "image", "text", "star", "lang", "source", "license"}


def parse_line(line: bytes, *, lang: Language | None, strict_lang: bool, with_id: bool) -> Record:
    """Read one line, which is not blank.

    Args:
        line: The line without its end.
        lang: The language of the file, None where only the line or its script can tell.
        strict_lang: The caller named ``lang``, so a line that names another is a defect.
        with_id: Compute the identifier.

    Raises:
        Defect: The line breaks a rule.
    """
    return to_record(_object(line), lang=lang, strict_lang=strict_lang, with_id=with_id)


def to_record(fields: dict[str, Any], *, lang: Language | None, strict_lang: bool, with_id: bool) -> Record:
    """Make a record from the named values of a line, coerced and checked; raise `Defect` where a rule is broken."""
    for name in ("type", "text"):
        if fields.get(name) is None:
            raise Defect("missing", f"there is no {name!r}; a record needs type, text, and a question or an image")
    game, text = fields["type"], fields["text"]
    if not isinstance(game, str) or game not in GAMES:
        raise Defect("type", f"type is {_show(game)}; expected T2T, I2T or IT2T")
    text = _text(text, "text")
    if text is None:
        raise Defect("text", "text is empty")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    question = _text(fields.get("question"), "question")
    if question == "None":
        question = None
    image = _image(fields.get("image"))
    star = _star(fields.get("star"))
    lang = _language(fields.get("lang"), lang, strict_lang, f"{question or ''}{text}")
    if game != "T2T" and image is None:
        raise Defect("image", f"a record of type {game} has no image")
    if game == "T2T" and question is None and not (lang == "ja" and image is not None):
        raise Defect("question", "a record of type T2T has no question (only a Japanese one may have it in its image)")
    source, licence = (_optional_text(fields.get(name), name) for name in ("source", "license"))
    extra = {name: value for name, value in fields.items() if name not in _OWN}
    if extra:
        _refuse_wide_integers(extra)
    identifier = record_id(lang=lang, type=game, question=question, image=image, text=text) if with_id else ""
    return Record(identifier, game, question, image, text, star, lang, source, licence, extra)


def script_language(text: str) -> Language:
    """Guess a language by script: kana is Japanese, otherwise Han is Chinese, otherwise English."""
    if text.isascii():
        return "en"
    if _KANA.search(text):
        return "ja"
    return "zh" if _HAN.search(text) else "en"


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = _decode(line)
    except UnicodeDecodeError as error:
        raise _bad_bytes(error) from None
    except RecursionError:
        raise Defect("json", "the JSON is nested too deeply") from None
    except (ValueError, OverflowError) as error:  # msgspec's own error is a ValueError
        try:
            line.decode()
        except UnicodeDecodeError as bad:
            raise _bad_bytes(bad) from None
        if _SURROGATE.search(line) and _is_json(line):
            raise Defect("surrogate", "an escape \\ud800 to \\udfff stands alone; it is no character") from None
        raise Defect("json", str(error)) from None
    if not isinstance(fields, dict):
        raise Defect("json", f"the line holds {_show(fields)}; expected an object")
    if b"\\\\" in line or line.count(b'"') - line.count(b'\\"') != 2 * _string_tokens(fields):
        _refuse_duplicate_keys(line)
    return fields


def _is_json(line: bytes) -> bool:
    """Whether Python's reader, which lets lone surrogates pass, takes a line."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _bad_bytes(error: UnicodeDecodeError) -> Defect:
    return Defect("utf8", f"the bytes are not UTF-8: {error.reason} at byte {error.start} of the text")


def _string_tokens(value: Any) -> int:
    """How many strings, keys included, JSON without a repeated key needs for a value."""
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        return len(value) + sum(map(_string_tokens, value.values()))
    return sum(map(_string_tokens, value)) if isinstance(value, list) else 0


def _refuse_duplicate_keys(line: bytes) -> None:
    def pairs(items: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in items]
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise Defect("duplicate-key", f"the key {_show(repeated)} stands twice in one object")

    try:
        json.loads(line, object_pairs_hook=pairs)
    except Defect:
        raise
    except (ValueError, RecursionError) as error:  # what one parser takes and the other does not is not JSON
        raise Defect("json", str(error)) from None


def _refuse_wide_integers(value: Any) -> None:
    """Integers of more than 64 bits cannot be stored; JSON of other programs would change them silently."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            _refuse_wide_integers(one)
    elif isinstance(value, int) and not -MAX_STAR - 1 <= value <= MAX_STAR:
        raise Defect("number", f"the integer {_show(value)} has more than 64 bits")


def _text(value: Any, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Defect(name, f"{name} is {_show(value)}; expected a string")
    if len(value) > MAX_TEXT:
        raise Defect(f"{name}-length", f"{name} has {len(value)} characters; at most {MAX_TEXT} are allowed")
    return None if not value or value.isspace() else value


def _optional_text(value: Any, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise Defect(name, f"{name} is {_show(value)}; expected a string or null")


def _image(value: Any) -> str | None:
    if value is None or value in ("", "None"):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise Defect("image", f"image is {_show(value)}; expected an identifier or null")
    if not is_image_id(value):
        raise Defect(
            "image-id", f"image is {_show(value)}; expected 1 to 128 letters, digits, '_', '.' and '-', no path"
        )
    return value


def is_image_id(value: str) -> bool:
    """Whether a string is a picture's identifier, and so cannot be a path."""
    return _IMAGE_ID.fullmatch(value) is not None and value.strip(".") != ""


def _star(value: Any) -> int | None:
    if value is None:
        return None
    number: Any = value
    if (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _INTEGER.fullmatch(value)):
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_STAR:
        raise Defect("star", f"star is {_show(value)}; expected an integer of at least 0, or null")
    return number


def _language(named: Any, lang: Language | None, strict: bool, text: str) -> Language:
    if named is None:
        return lang or script_language(text)
    if not isinstance(named, str):
        raise Defect("lang", f"lang is {_show(named)}; expected a string")
    try:
        own = language(named)
    except ValueError as error:
        raise Defect("lang", str(error)) from None
    if strict and own != lang:
        raise Defect("lang", f"the line says {named!r}, but the file was read as {lang!r}")
    return own


def _show(value: Any) -> str:
    """A value's representation, short and printable."""
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
