"""Read what a model wrote, and never guess: what can be meant in two ways is None."""

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase

from oogiri_go import fold

from ._question import MAX_OPTIONS

_LEAD = re.compile(
    r"(?:(?:so,? |thus,? )?(?:the |my )?(?:final |correct |best |right |funniest )?(?:answers?|options?|choices?)"
    r"(?: (?:is|are))?|i (?:choose|pick|select)(?: options?)?"
    r"|(?:我的?)?(?:答案|选项|选择|我选)(?:是|为)?|(?:答え|回答|正解|選択肢|選択)(?:は)?)\s*:?\s*(?=[A-Z(\[])",
    re.IGNORECASE,
)
_JOIN = re.compile(r"\s*(?:[,;、&/]|\band\b|和|と|及び|以及)\s*|\s+")
_LABEL = re.compile(r"(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])(?:[.):、]|(?![A-Za-z0-9_'’])))")
# After "A." a space must follow, or a sign of a script that uses none: "A.M. is early" names no option.
_ITEM = re.compile(r"(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])[.):、])(?:\s+|(?=[^\x00-\u02ff]))(\S.*)")
_STANDALONE = re.compile(r"(?<![A-Za-z0-9_'’])([A-Z])(?![A-Za-z0-9_'’])")
_NUMBERED = re.compile(r"(\d{1,2})[.):、]\s*(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])(?![A-Za-z0-9_'’]))")
_TRAILING = ".。!,"


def parse_answer(text: str, n_options: int, *, options: Sequence[str] | None = None) -> tuple[int, ...] | None:
    """Read which options an answer names.

    Accepted are a letter or several (``B``, ``(B)``, ``A, C``, ``A and C``), a letter with its text (``B. text``), one
    such line for each chosen option, and either after words such as ``The answer is``. In a line ``A. text`` only the
    first letter counts, whatever the text says. Lines beside the choice may explain it, but not name another option.

    Args:
        text: What the model wrote.
        n_options: Number of options, 2 to 26.
        options: Their texts. With them a letter whose text is that of another option is None, and several options on
            one line can be told apart.

    Returns:
        Positions from 0, ascending, or None whenever it is not certain what is meant.

    Raises:
        ValueError: ``n_options`` is out of range, or ``options`` are not so many.

    Example:
        >>> parse_answer("B. Plan B. always works", 3), parse_answer("A and C", 3), parse_answer("A or B", 3)
        ((1,), (0, 2), None)
    """
    _check(n_options, options)
    lines = [_plain(line) for line in text.splitlines()]
    lines = [line for line in lines if line]
    chosen: list[int] = []
    beside: list[str] = []
    for line in lines:
        found = _line(line, options)
        if found is None:
            beside.append(line)
        elif not found:
            return None
        else:
            chosen += found
    if not chosen or max(chosen) >= n_options or len(set(chosen)) < len(chosen) or len(chosen) == n_options:
        return None
    named = {ascii_uppercase.index(letter) for line in beside for letter in _STANDALONE.findall(line)}
    if {at for at in named if at < n_options} - set(chosen):
        return None
    return tuple(sorted(chosen))


def parse_ranking(text: str, n_options: int, *, options: Sequence[str] | None = None) -> tuple[int, ...] | None:
    r"""Read an order of all options.

    Accepted are numbered items (``1. C. text``), one a line or all on one line, and bare letters in a row (``C, A, B``
    or ``C > A > B``). Letters with texts but without numbers are None: they may be the list of options, repeated.

    Args:
        text: What the model wrote.
        n_options: Number of options, 2 to 26.
        options: Their texts, to see that each letter has its own text.

    Returns:
        Positions from 0, best first, each once; or None whenever it is not certain what is meant.

    Raises:
        ValueError: ``n_options`` is out of range, or ``options`` are not so many.

    Example:
        >>> parse_ranking("1. B. Plan C. again\n2. A. No\n3. C. Hm", 3), parse_ranking("B > A", 3)
        ((1, 0, 2), None)
    """
    _check(n_options, options)
    lines = [line for line in map(_plain, text.splitlines()) if line]
    items = [(found, line[found.end() :]) for line in lines if (found := _NUMBERED.match(line))]
    if len(items) > 1:
        numbers = [int(found[1]) for found, _ in items]
        order = [_position(found.groups()[1:]) for found, _ in items]
        texts = [rest for _, rest in items]
    elif lines and (row := _numbered_row(lines)):
        numbers, order, texts = row
    elif len(lines) == 1 and (letters := _bare_row(lines[0])):
        numbers, order, texts = list(range(1, len(letters) + 1)), letters, [""] * len(letters)
    else:
        return None
    if numbers != list(range(1, n_options + 1)) or sorted(order) != list(range(n_options)):
        return None
    if options is not None and not all(_same(rest, options[at]) for at, rest in zip(order, texts, strict=True)):
        return None
    return tuple(order)


def _check(n_options: int, options: Sequence[str] | None) -> None:
    if not 2 <= n_options <= MAX_OPTIONS:
        raise ValueError(f"n_options is {n_options}; expected 2 to {MAX_OPTIONS}")
    if options is not None and len(options) != n_options:
        raise ValueError(f"{len(options)} option texts for n_options = {n_options}")


def _plain(line: str) -> str:
    """A line in NFKC without emphasis, bullets and quotes around it."""
    return unicodedata.normalize("NFKC", line).replace("**", "").replace("`", "").strip(" \t-*•\"'“”「」")


def _position(groups: Sequence[str | None]) -> int:
    return next(ascii_uppercase.index(letter) for letter in groups if letter)


def _line(line: str, options: Sequence[str] | None) -> list[int] | None:
    """The options that a line names as its choice, None where it is no choice, [] where it can be read in two ways."""
    led = _LEAD.match(line)
    rest = line[led.end() :] if led else line
    item = _ITEM.fullmatch(rest)
    at, content = (_position(item.groups()[:3]), item[4]) if item else (-1, "")
    if options is not None and 0 <= at < len(options):
        if _same(content, options[at]):
            return [at]
        if (several := _split(rest, options)) is not None:
            return several
        if any(_same(content, other) for other in options):
            return []
    letters = _letters(rest, told=options is not None and at < len(options))
    if letters is not None:
        return letters
    return [at] if item else None


def _letters(line: str, *, told: bool) -> list[int] | None:
    """A line that is nothing but labels.

    ``A. and B.`` may be two of them, or a label and its text. That is [], unless the texts have told that it is none.
    """
    line = line.rstrip(_TRAILING).strip()
    found: list[int] = []
    at, certain = 0, True
    while at < len(line):
        label = _LABEL.match(line, at)
        if label is None:
            return None
        found.append(_position(label.groups()))
        at = label.end()
        if at < len(line):
            join = _JOIN.match(line, at) or re.compile("(?<=、)").match(line, at)
            if join is None:
                return None
            certain &= told or label[0].isalpha() or label[0][0] in "([" or label[0][-1] == "、"
            at = join.end()
    return (found if certain else []) if found else None


def _split(line: str, options: Sequence[str]) -> list[int] | None:
    """Read ``A. text of A C. text of C`` with the help of the texts."""
    found: list[int] = []
    rest = line
    while rest:
        item = _ITEM.fullmatch(rest)
        if item is None or (at := _position(item.groups()[:3])) >= len(options):
            return None
        wanted = " ".join(unicodedata.normalize("NFKC", options[at]).split())
        content = " ".join(item[4].split())
        if not content.startswith(wanted):
            return None
        found.append(at)
        rest = content[len(wanted) :].lstrip(" .,;、。")
    return found


def _same(content: str, option: str) -> bool:
    """Whether a text is that of an option; an empty one and one that was cut short count."""
    told, wanted = (fold(one).strip(" .。:、)\"'“”「」") for one in (content, _plain(option)))
    return told == wanted or wanted.startswith(told)


def _numbered_row(lines: Sequence[str]) -> tuple[list[int], list[int], list[str]] | None:
    """Numbered items in one line, as in ``1. B. text. 2. A. text``."""
    if len(lines) != 1:
        return None
    found = list(_NUMBERED.finditer(lines[0]))
    if len(found) < 2 or found[0].start() != 0:
        return None
    ends = [one.start() for one in found[1:]] + [len(lines[0])]
    texts = [lines[0][one.end() : end] for one, end in zip(found, ends, strict=True)]
    return [int(one[1]) for one in found], [_position(one.groups()[1:]) for one in found], texts


def _bare_row(line: str) -> list[int] | None:
    """Letters in a row."""
    led = _LEAD.match(line)
    rest = (line[led.end() :] if led else line).rstrip(_TRAILING)
    letters = re.split(r"\s*[,>、]\s*|\s+", rest)
    return (
        [ascii_uppercase.index(one) for one in letters] if all(re.fullmatch("[A-Z]", one) for one in letters) else None
    )
