r"""Prompts in the syntax of the AUTOMATIC1111 web interface, and the plain prompts in them.

======================  ======================================================================
``(a)`` ``((a))``       weight times 1.1 for each bracket
``(a:1.3)``             weight 1.3
``[a]``                 weight divided by 1.1
``[a:b:0.5]``           a, from half of the steps on b; ``[b:0.5]`` adds b, ``[a::0.5]`` drops a
``[a|b]``               a and b in turn
``<lora:name:0.7>``     a network, no text
``BREAK`` ``AND``       ends a chunk, begins another prompt
``\(`` ``\[`` ``\\``    the characters themselves
======================  ======================================================================
"""

import re
import unicodedata
from dataclasses import dataclass

_NETWORK = re.compile(r"<(\w+):([^<>]+)>")
_INNERMOST = re.compile(r"(?<!\\)\[((?:\\.|[^\[\]\\])*)\]")
_WHEN = re.compile(r"\s*\d*\.?\d+%?\s*")
_TOKEN = re.compile(r"\\[()\[\]\\]|:\s*([+-]?\d*\.?\d+)\s*\)|[()\[\]]|\\|:|[^\\()\[\]:]+")
_BREAK = re.compile(r"\s*\b(?:BREAK|AND)\b\s*")
_OUTER_COLON = re.compile(r":(?![^()]*\))")  # not one that belongs to a weight
_STRAY = re.compile(r"(?<!\d):\s*\d*\.\d+\s*\)?(?=\s*(?:,|$))|(?<=[^\d\s:]):\s*\d+\s*\)?(?=\s*(?:,|$))", re.MULTILINE)
_STEP = 1.1


@dataclass(frozen=True)
class Chunk:
    """A piece of text and its weight."""

    text: str
    weight: float


@dataclass(frozen=True)
class Network:
    """A network that the prompt loads, such as a LoRA."""

    kind: str
    name: str
    weight: float | None


@dataclass(frozen=True)
class ParsedPrompt:
    """What a prompt says.

    Attributes:
        chunks: Its text with weights, neighbours of one weight joined.
        networks: What it loads.
    """

    chunks: tuple[Chunk, ...]
    networks: tuple[Network, ...]


def parse_prompt(prompt: str) -> ParsedPrompt:
    """Parse a prompt; any text is one, for brackets that do not close reach to its end.

    Of prompt editing the last form is kept, of alternation all forms.

    Args:
        prompt: In the syntax above.

    Returns:
        Chunks and networks.

    Example:
        >>> for chunk in parse_prompt("a (red:1.5) [[house]] <lora:ink:0.7>").chunks:
        ...     print(repr(chunk.text), round(chunk.weight, 3))
        'a ' 1.0
        'red' 1.5
        ' ' 1.0
        'house' 0.826
        ' ' 1.0
    """
    networks = tuple(_network(found[1], found[2]) for found in _NETWORK.finditer(prompt))
    text = _last_forms(_NETWORK.sub("", prompt))
    pieces: list[list[str | float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def weigh(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] = float(piece[1]) * factor

    for found in _TOKEN.finditer(text):
        token = found[0]
        if token in opened:
            opened[token].append(len(pieces))
        elif found[1] is not None and opened["("]:
            weigh(opened["("].pop(), float(found[1]))
        elif token == ")" and opened["("]:
            weigh(opened["("].pop(), _STEP)
        elif token == "]" and opened["["]:
            weigh(opened["["].pop(), 1 / _STEP)
        else:
            pieces.append([token[1] if token[0] == "\\" and len(token) == 2 else token, 1.0])
    for bracket, factor in (("(", _STEP), ("[", 1 / _STEP)):
        for start in opened[bracket]:
            weigh(start, factor)
    chunks: list[Chunk] = []
    for piece, weight in pieces:
        if chunks and chunks[-1].weight == weight:
            chunks[-1] = Chunk(chunks[-1].text + str(piece), float(weight))
        else:
            chunks.append(Chunk(str(piece), float(weight)))
    return ParsedPrompt(tuple(chunks), networks)


def clean_prompt(prompt: str) -> str:
    r"""Return the plain text of a prompt: no weights, also where their brackets are lost, no networks, even commas.

    Args:
        prompt: In the syntax above.

    Returns:
        The text in NFC on one line; empty when there is none.

    Example:
        >>> clean_prompt(r"((masterpiece,best quality)),, 1girl, painting \(medium\) BREAK <lora:x:1> [day:night:0.5]")
        'masterpiece, best quality, 1girl, painting (medium), night'
    """
    text = ""
    for chunk in parse_prompt(prompt).chunks:  # which the web interface tokenises apart
        text += (" " if text[-1:].isalnum() and chunk.text[:1].isalnum() else "") + chunk.text
    text = unicodedata.normalize("NFC", _STRAY.sub("", _BREAK.sub(", ", text)))
    text = "".join(" " if unicodedata.category(one) in ("Cc", "Zl", "Zp") else one for one in text)
    parts = (" ".join(part.split()) for part in text.split(","))
    return ", ".join(part for part in parts if part)


def _network(kind: str, rest: str) -> Network:
    name, _, weight = rest.partition(":")
    try:
        return Network(kind, name, float(weight.split(":")[0]) if weight else None)
    except ValueError:
        return Network(kind, rest, None)


def _last_forms(text: str) -> str:
    """Replace prompt editing and alternation, the innermost first; other square brackets stay."""
    kept: list[str] = []

    def form(found: re.Match[str]) -> str:
        inside = found[1]
        *options, when = _OUTER_COLON.split(inside)
        if options and _WHEN.fullmatch(when):
            return options[-1]
        if "|" in inside:
            return " ".join(option.strip() for option in inside.split("|"))
        kept.append(inside)
        return f"\ue000{len(kept) - 1}\ue001"  # set aside, so that the brackets around it become the innermost

    text = text.replace("\ue000", "").replace("\ue001", "")
    while _INNERMOST.search(text):
        text = _INNERMOST.sub(form, text)
    while "\ue000" in text:
        text = re.sub("\ue000(\\d+)\ue001", lambda found: f"[{kept[int(found[1])]}]", text)
    return text
