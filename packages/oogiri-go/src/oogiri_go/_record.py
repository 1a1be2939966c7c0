"""One answer of Oogiri-GO: its fields, its language and its identifier."""

import unicodedata
from hashlib import blake2b
from typing import Any, Literal

import msgspec

Game = Literal["T2T", "I2T", "IT2T"]
Language = Literal["en", "zh", "ja"]

GAMES: tuple[Game, ...] = ("T2T", "I2T", "IT2T")
LANGUAGES: tuple[Language, ...] = ("en", "zh", "ja")
_ALIASES: dict[str, Language] = {"en": "en", "cn": "zh", "zh": "zh", "jp": "ja", "ja": "ja"}

# Verified over every code point to write what json.dumps(ensure_ascii=False, separators=(",", ":")) writes.
compact_json = msgspec.json.Encoder().encode
_normalize = unicodedata.normalize


class Record(msgspec.Struct, frozen=True, gc=False):
    """One answer to one prompt. Immutable; read it with `read_jsonl` rather than by hand.

    Attributes:
        id: 32 hexadecimal digits over language, game, prompt and text, see `record_id`; ``""`` when it was not asked
            for.
        type: The game: ``"T2T"`` (text to text), ``"I2T"`` (image to text) or ``"IT2T"`` (both).
        question: The prompt's text, or None.
        image: Identifier of the prompt's picture, without folder, or None.
        text: The answer, in NFC.
        star: Likes, at least 0, or None where unknown.
        lang: ``"en"``, ``"zh"`` or ``"ja"``.
        source: Where the record comes from, or None.
        license: Its licence, or None.
        extra: Whatever else the line held, by name.

    Example:
        >>> Record("", "T2T", "Why?", None, "Why not?", 5, "en").star
        5
    """

    id: str
    type: Game
    question: str | None
    image: str | None
    text: str
    star: int | None
    lang: Language
    source: str | None = None
    license: str | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


def language(name: str) -> Language:
    """Give the language that a name of the published files or of the card means.

    Args:
        name: ``en``, ``cn``, ``zh``, ``jp`` or ``ja``, in any case.

    Returns:
        ``"en"``, ``"zh"`` or ``"ja"``.

    Raises:
        ValueError: It is another name.

    Example:
        >>> language("jp")
        'ja'
    """
    found = _ALIASES.get(name.lower())
    if found is None:
        raise ValueError(f"the language {name!r} is not known; expected one of {', '.join(_ALIASES)}")
    return found


def nfkc(text: str) -> str:
    """Normalise to NFKC. Most texts in Chinese and Japanese differ from it by these three signs at most.

    To put a sign's own decomposition in its place does not change the normal form of the whole, and Python is several
    times faster at finding a text normal than at making it so.
    """
    if text.isascii():
        return text
    return _normalize("NFKC", text.replace("！", "!").replace("？", "?").replace("，", ","))


def record_id(*, lang: str, type: str, question: str | None, image: str | None, text: str) -> str:
    """Compute a record's identifier, the same on every machine.

    blake2b-128 of the JSON list [lang, type, question or "", image or "", NFKC(text)]

    Args:
        lang: ``"en"``, ``"zh"`` or ``"ja"``.
        type: The game.
        question: The prompt's text, or None.
        image: The picture's identifier, or None.
        text: The answer.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> record_id(lang="en", type="T2T", question="Why?", image=None, text="Why not?")
        '61f4fe26abdd1ccd7e92e4036e763cea'
    """
    fields = [lang, type, question or "", image or "", nfkc(text)]
    return blake2b(compact_json(fields), digest_size=16).hexdigest()


def to_line(record: Record) -> bytes:
    r"""Write a record as one line of JSON, without the line end; `read_jsonl` gives the same record back.

    Args:
        record: The record. Its identifier is not written, because it is always computed.

    Returns:
        UTF-8 bytes.

    Example:
        >>> to_line(Record("", "T2T", "Why?", None, "Why not?", 5, "en", extra={"id": "a1"}))
        b'{"type":"T2T","question":"Why?","image":null,"text":"Why not?","star":5,"lang":"en","id":"a1"}'
    """
    fields: dict[str, Any] = {
        "type": record.type,
        "question": record.question,
        "image": record.image,
        "text": record.text,
        "star": record.star,
        "lang": record.lang,
    }
    for name in ("source", "license"):
        if (value := getattr(record, name)) is not None:
            fields[name] = value
    return compact_json(fields | record.extra)
