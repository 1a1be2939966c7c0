"""The wording of every prompt: versioned data files, a hash that names them, and users' own wording in their place."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Formatter, ascii_uppercase
from typing import Any

from oogiri_go import language

from ._question import Game, Language

GAMES: tuple[Game, ...] = ("T2T", "I2T", "IT2T")
LANGUAGES: tuple[Language, ...] = ("en", "zh", "ja")
ANY = "any"

# What stands in braces in a template, by kind and game. A kind that has no game of its own is listed under "any".
_QUESTION = {"T2T": {"question"}, "I2T": set[str](), "IT2T": {"question"}}
FIELDS: Mapping[str, Mapping[str, set[str]]] = {
    "generate": _QUESTION,
    "condition": {game: names | {"condition"} for game, names in _QUESTION.items()},
    "select": {game: names | {"n", "options"} for game, names in _QUESTION.items()},
    "rank": {game: names | {"options"} for game, names in _QUESTION.items()},
    "mask": {"T2T": {"question", "text"}, "I2T": {"text"}},
    "literal": _QUESTION,
    "rewrite": {ANY: {"text"}},
    "dat": {ANY: {"words", "options"}},
    "cloud": {ANY: {"options"}},
}
_LAST = {"condition": "condition", "select": "options", "rank": "options", "dat": "options", "cloud": "options"}

Wording = Mapping[str, Mapping[str, tuple[str, ...]]]


class Templates:
    """The wording of the prompts in every language.

    Args:
        override: A file of JSON, or several, with one's own wording: ``{"lang": "en", "generate": {"T2T": ["..."]}}``.
            What it names replaces the built-in list of paraphrases; everything else stays.

    Attributes:
        digest: SHA-256 over all wording in hexadecimal; it stands in the metadata of every run.
        versions: Version of the built-in file of each language.

    Raises:
        ValueError: A file is not JSON of this form, names an unknown kind or game, or a template lacks a placeholder,
            has one too many, or does not end with what changes most often, which backends rely on to share work.
        FileNotFoundError: There is no such file.

    Example:
        >>> print(Templates().render("condition", "en", "I2T", condition="umbrella", variant=1))
        Put a caption under this picture that takes a sudden turn of thought, makes people laugh and uses the word of \
the condition. One line, no explanation.
        Condition: umbrella
    """

    def __init__(self, override: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()) -> None:
        self.versions: dict[str, int] = {}
        self._wording: dict[str, Wording] = {}
        for lang in LANGUAGES:
            text = files("clot").joinpath("templates", f"{lang}.json").read_text(encoding="utf-8")
            data = json.loads(text)
            self.versions[lang] = data["version"]
            self._wording[lang] = _checked(data, f"templates/{lang}.json")
        paths = [override] if isinstance(override, str | os.PathLike) else override
        for path in paths:
            lang, wording = _read(Path(path))
            self._wording[lang] = {
                kind: {**games, **wording.get(kind, {})} for kind, games in self._wording[lang].items()
            }
        canonical = json.dumps(self._wording, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        self.digest = hashlib.sha256(canonical.encode()).hexdigest()

    def variants(self, kind: str, lang: str, game: str = ANY) -> int:
        """Give the number of paraphrases of a kind in a language and game."""
        return len(self._of(kind, lang, game))

    def render(
        self,
        kind: str,
        lang: str,
        game: str = ANY,
        *,
        variant: int = 0,
        question: str = "",
        condition: str = "",
        options: Sequence[str] = (),
        n: int = 1,
        text: str = "",
        words: Sequence[str] = (),
    ) -> str:
        """Write the user's message.

        Args:
            kind: ``"generate"``, ``"condition"``, ``"select"``, ``"rank"``, ``"mask"``, ``"literal"``, ``"rewrite"``,
                ``"dat"`` or ``"cloud"``.
            lang: ``"en"``, ``"zh"`` or ``"ja"``.
            game: ``"T2T"``, ``"I2T"`` or ``"IT2T"``; kinds without games ignore it.
            variant: Which paraphrase; counted modulo their number.
            question: The question, or the text of the picture.
            condition: The word that must occur.
            options: Answers; each becomes one line, ``A. text``, whatever line ends it holds.
            n: How many of them to choose.
            text: The answer with a gap, or the line to rewrite.
            words: Given words.

        Returns:
            The message. Braces in the arguments are text like any other.

        Raises:
            ValueError: There is no such kind, language or game.
        """
        several = self._of(kind, lang, game)
        return several[variant % len(several)].format(
            question=question,
            condition=condition,
            options=lettered(options) if options else "",
            n=n,
            text=text,
            words=", ".join(words),
        )

    def _of(self, kind: str, lang: str, game: str) -> tuple[str, ...]:
        try:
            games = self._wording[lang][kind]
            return games[ANY] if ANY in games else games[game]
        except KeyError:
            raise ValueError(f"there is no template of kind {kind!r} for {game!r} in {lang!r}") from None


def one_line(text: str) -> str:
    """Put a text on one line, so that nothing inside an option looks like an option of its own."""
    return " ".join(text.split())


def lettered(options: Sequence[str]) -> str:
    """Write options as lines ``A. text``."""
    return "\n".join([f"{letter}. {' '.join(text.split())}" for letter, text in zip(ascii_uppercase, options)])  # noqa: B905 - at most 26


def game_of(game: Game, question: str | None) -> Game:
    """The game whose wording fits: in Japanese data the question of a T2T record may be inside its picture."""
    return "I2T" if not question else game


def _read(path: Path) -> tuple[Language, Wording]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"the template file {path.name} is not JSON in UTF-8: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("lang"), str):
        raise ValueError(f'the template file {path.name} names no language; expected {{"lang": "en", ...}}')
    return language(data["lang"]), _checked(data, path.name)


def _checked(data: dict[str, Any], name: str) -> Wording:
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for kind, by_game in data.items():
        if kind in ("version", "lang"):
            continue
        if kind not in FIELDS:
            raise ValueError(f"{name}: there is no kind {kind!r}; expected some of {', '.join(FIELDS)}")
        if not isinstance(by_game, dict):
            raise ValueError(f"{name}: {kind} holds {by_game!r}; expected lists of templates by game")
        found[kind] = {}
        for game, several in by_game.items():
            if game not in FIELDS[kind]:
                raise ValueError(f"{name}: {kind} has no game {game!r}; expected some of {', '.join(FIELDS[kind])}")
            if not isinstance(several, list) or not several:
                raise ValueError(f"{name}: {kind} {game} holds {several!r}; expected a list with at least one template")
            for template in several:
                _check(template, FIELDS[kind][game], _LAST.get(kind), f"{name}: {kind} {game}")
            found[kind][game] = tuple(several)
    return found


def _check(template: object, expected: set[str], last: str | None, where: str) -> None:
    if not isinstance(template, str) or not template.strip():
        raise ValueError(f"{where}: {template!r} is no template; expected a text")
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{where}: {template!r}: {error}; write {{{{ and }}}} for braces") from None
    names = [name for _, name, _, _ in parts if name is not None]
    if any(spec or conversion for _, name, spec, conversion in parts if name is not None):
        raise ValueError(f"{where}: {template!r}: a placeholder has a format; write its name alone")
    wanted = ", ".join(f"{{{one}}}" for one in sorted(expected)) or "no placeholder"
    if set(names) != expected:
        has = ", ".join(f"{{{one}}}" for one in sorted(set(names))) or "none"
        raise ValueError(f"{where}: {template!r} has the placeholders {has}; expected {wanted}")
    if last is not None and not template.endswith(f"{{{last}}}"):
        raise ValueError(f"{where}: {template!r} does not end with {{{last}}}; put it last")
