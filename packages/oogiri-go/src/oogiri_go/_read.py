"""Read JSON lines: records and typed issues, in constant memory."""

import os
import re
import unicodedata
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, overload

import msgspec

from ._fields import MAX_STAR, MAX_TEXT, parse_line, script_language
from ._issue import DataError, Defect, Issue
from ._record import Game, Language, Record, compact_json, language, nfkc

OnError = Literal["raise", "skip", "collect"]

_BLOCK = 1 << 17
_BOM = b"\xef\xbb\xbf"
_is_normalized = unicodedata.is_normalized


class _Published(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line as it was published: five keys, none missing, none coerced."""

    type: Game
    question: str | None
    image: str | None
    text: str
    star: Annotated[int, msgspec.Meta(ge=0, le=MAX_STAR)] | None


_published_lines = msgspec.json.Decoder(_Published).decode_lines


@overload
def read_jsonl(
    path: str | os.PathLike[str],
    *,
    lang: str = ...,
    on_error: Literal["raise", "skip"] = ...,
    max_line: int = ...,
    with_id: bool = ...,
) -> Iterator[Record]: ...
@overload
def read_jsonl(
    path: str | os.PathLike[str],
    *,
    lang: str = ...,
    on_error: Literal["collect"],
    max_line: int = ...,
    with_id: bool = ...,
) -> Iterator[Record | Issue]: ...
def read_jsonl(
    path: str | os.PathLike[str],
    *,
    lang: str = "auto",
    on_error: OnError = "raise",
    max_line: int = 1 << 20,
    with_id: bool = True,
) -> Iterator[Record] | Iterator[Record | Issue]:
    r"""Read a file of JSON lines in the schema of Oogiri-GO, in memory that does not grow with it.

    A byte-order mark, CR LF and blank lines are accepted. ``"None"`` and ``""`` stand for null in question and image;
    an integer image becomes a string, a star such as ``"5"`` or ``5.0`` an integer. Text is kept in NFC. Everything
    else that breaks a rule is an issue; nothing is repaired silently. Keys that the schema does not have go to
    ``extra``.

    Args:
        path: The file.
        lang: A language of `language`, for every line; ``"auto"`` takes the line's own ``lang``, else that of the file
            name (``en.jsonl``, ``cn.jsonl``, ``jp.jsonl``, ``nycc_en.jsonl``), else the script of the line.
        on_error: ``"raise"`` raises at the first issue, ``"skip"`` leaves such lines out, ``"collect"`` yields the
            issues among the records, in file order.
        max_line: Longest accepted line, in bytes; a longer one is an issue and is never held in memory.
        with_id: Compute identifiers; False leaves them ``""``.

    Yields:
        Records, and with ``"collect"`` issues.

    Raises:
        DataError: With ``"raise"``, at an issue, which it holds.
        FileNotFoundError: There is no such file.
        ValueError: An argument has no such value.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "en.jsonl")
        ...     line = '{"type":"T2T","question":"Why?","image":"None","text":"Why not?","star":"5"}'
        ...     _ = path.write_text(line + '\n{"x\n')
        ...     for one in read_jsonl(path, on_error="collect"):
        ...         print(type(one).__name__, getattr(one, "star", None), getattr(one, "code", None))
        Record 5 None
        Issue None json
    """
    if on_error not in ("raise", "skip", "collect"):
        raise ValueError(f"on_error is {on_error!r}; expected 'raise', 'skip' or 'collect'")
    if max_line < 1:
        raise ValueError(f"max_line is {max_line}; expected at least 1 byte")
    known = file_language(path) if lang == "auto" else language(lang)
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    return _read(path, known, lang != "auto", on_error, max_line, with_id)


def file_language(path: str | os.PathLike[str]) -> Language | None:
    """The language that a file's name ends in, or None."""
    word = re.split(r"[^A-Za-z]+", Path(path).stem)[-1]
    try:
        return language(word)
    except ValueError:
        return None


def _read(
    path: str | os.PathLike[str], lang: Language | None, strict: bool, on_error: OnError, max_line: int, with_id: bool
) -> Iterator[Record | Issue]:
    number = 1
    with Path(path).open("rb") as file:
        for offset, lines in _whole_lines(file, max_line):
            if lines is None:
                found: list[Record | Issue] = [Issue(number, offset, "line-length", f"more than {max_line} bytes")]
                number += 1
            else:
                fast = published_records(lines, lang=lang, with_id=with_id) if len(lines) <= max_line else None
                if fast is not None:
                    yield from fast
                    number += len(fast)
                    continue
                found = []
                for line in lines.removesuffix(b"\n").split(b"\n"):
                    one = _read_line(line, number, offset, lang, strict, max_line, with_id)
                    if one is not None:
                        found.append(one)
                    number += 1
                    offset += len(line) + 1
            for one in found:
                if isinstance(one, Record) or on_error == "collect":
                    yield one
                elif on_error == "raise":
                    raise DataError(one, path)


def _read_line(
    line: bytes, number: int, offset: int, lang: Language | None, strict: bool, max_line: int, with_id: bool
) -> Record | Issue | None:
    """The reference: one line at a time."""
    if len(line) > max_line:
        return Issue(number, offset, "line-length", f"{len(line)} bytes; at most {max_line} are allowed")
    line = line.strip(b" \t\r")
    if not line:
        return None
    try:
        return parse_line(line, lang=lang, strict_lang=strict, with_id=with_id)
    except Defect as defect:
        return Issue(number, offset, defect.code, defect.message)


def published_records(lines: bytes, *, lang: Language | None, with_id: bool) -> list[Record] | None:
    """The fast path: read many lines at once, or give None where any of them needs `_read_line`.

    It takes only lines of exactly the five published keys that need no coercion. The decoder would let repeated keys,
    two objects on a line and an object over several lines through; the counts of quotes, line ends and opening braces
    tell all of them apart, because a quote inside a string is always escaped.
    """
    try:
        decoded = _published_lines(lines)
    except (ValueError, RecursionError):
        return None
    n = len(decoded)
    if lines.count(b"\n") + (not lines.endswith(b"\n")) != n or lines.count(b"\n{") + lines.startswith(b"{") != n:
        return None
    records = []
    strings = 0
    for one in decoded:
        question, image, text = one.question, one.image, one.text
        if len(text) > MAX_TEXT or not text or text.isspace() or not (text.isascii() or _is_normalized("NFC", text)):
            return None
        own = lang or script_language(f"{question or ''}{text}")
        if question is None:
            if image is None or (one.type == "T2T" and own != "ja"):
                return None
        elif len(question) > MAX_TEXT or not question or question.isspace() or question == "None":
            return None
        else:
            strings += 1
        if image is None:
            if one.type != "T2T":
                return None
        elif not image.isalnum() or len(image) > 128 or image == "None":
            return None
        else:
            strings += 1
        identifier = ""
        if with_id:
            # record_id, without the cost of the call
            fields = compact_json([own, one.type, question or "", image or "", nfkc(text)])
            identifier = blake2b(fields, digest_size=16).hexdigest()
        records.append(Record(identifier, one.type, question, image, text, one.star, own))
    quotes = lines.count(b'"') - lines.count(b'\\"')
    return records if b"\\\\" not in lines and quotes == 2 * (7 * n + strings) else None


def _whole_lines(file: BinaryIO, max_line: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield (offset, whole lines), or (offset, None) for one line that is longer than ``max_line``."""
    offset, rest = 0, b""
    if (start := file.read(len(_BOM))) == _BOM:
        offset = len(_BOM)
    else:
        rest = start
    while block := file.read(_BLOCK):
        data = rest + block
        cut = data.rfind(b"\n") + 1
        if cut:
            yield offset, data[:cut]
            offset += cut
        rest = data[cut:]
        if len(rest) > max_line:
            begin, offset, rest = offset, offset + len(rest), b""
            while block := file.read(_BLOCK):
                end = block.find(b"\n") + 1
                if end:
                    offset, rest = offset + end, block[end:]
                    break
                offset += len(block)
            yield begin, None
    if rest:
        yield offset, rest
