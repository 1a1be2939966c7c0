"""Wrong options: what is plain, what belongs elsewhere, and what has lost its joke."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from oogiri_go import Record, fold, group_key, record_id
from oogiri_go.runs import write_atomic

from ._backend import Backend, Prompt, Request
from ._draw import Draws
from ._templates import Templates, game_of

__all__ = ["Distractors", "make_literals", "make_rewrites", "read_texts", "write_texts"]


class Distractors:
    """Give wrong options for a prompt, each from its own source.

    ``"literal"`` is a plain answer to the prompt: the caption of its picture, or a serious answer to its question.
    ``"other"`` is an answer to another prompt of the language and game, never of the same group. ``"rewrite"`` is the
    right answer without its joke. A source that has nothing gives None; nothing takes its place.

    Args:
        records: The records that other prompts' answers are drawn from.
        literals: Plain answers, by `group_key`; see `make_literals` and `read_texts`.
        rewrites: Rewritten answers, by record identifier; see `make_rewrites` and `read_texts`.
        seed: Another number draws other answers.
        pictures: The content of pictures by identifier, as in `oogiri_go.group_key`.

    Example:
        >>> rows = [Record("", "T2T", f"Question {at}?", None, f"Answer {at}.", 1, "en") for at in range(3)]
        >>> wrong = Distractors(rows, literals={group_key(rows[0]): "It is 0."})
        >>> wrong.literal(rows[0]), wrong.literal(rows[1]), wrong.other(rows[0]) in ("Answer 1.", "Answer 2.")
        ('It is 0.', None, True)
    """

    def __init__(
        self,
        records: Iterable[Record],
        *,
        literals: Mapping[str, str] | None = None,
        rewrites: Mapping[str, str] | None = None,
        seed: int = 0,
        pictures: Mapping[str, str] | None = None,
    ) -> None:
        self._literals = literals or {}
        self._rewrites = rewrites or {}
        self._seed = seed
        self._pictures = pictures
        self._pools: dict[tuple[str, str], list[str]] = {}
        self._answers: dict[tuple[str, str], set[str]] = {}
        for one in records:
            group = group_key(one, pictures)
            self._pools.setdefault((one.lang, one.type), []).append(one.text)
            self._answers.setdefault((one.lang, group), set()).add(fold(one.text))

    def literal(self, record: Record) -> str | None:
        """Give the plain answer to the record's prompt, or None."""
        return self._literals.get(group_key(record, self._pictures))

    def rewrite(self, record: Record) -> str | None:
        """Give the record's answer without its joke, or None."""
        return self._rewrites.get(name_of(record))

    def other(self, record: Record, *, taken: Iterable[str] = (), key: str = "") -> str | None:
        """Give an answer to another prompt, drawn by a hash.

        Args:
            record: Its language and game are kept, answers of its group are left out, wherever else they stand.
            taken: Texts that the answer must not repeat.
            key: Another word draws another answer.

        Returns:
            The answer, or None where there is no other prompt.
        """
        pool = self._pools.get((record.lang, record.type), [])
        if not pool:
            return None
        group = group_key(record, self._pictures)
        avoid = self._answers.get((record.lang, group), set()) | {fold(text) for text in taken}
        draws = Draws(self._seed, "other", name_of(record), key)
        for _ in range(20):
            text = pool[draws.below(len(pool))]
            if fold(text) not in avoid:
                return text
        free = [text for text in pool if fold(text) not in avoid]
        return free[draws.below(len(free))] if free else None


def name_of(record: Record) -> str:
    """The identifier of a record, computed where it was not read."""
    return record.id or record_id(
        lang=record.lang, type=record.type, question=record.question, image=record.image, text=record.text
    )


def read_texts(
    path: str | os.PathLike[str], *, of: Literal["literal", "rewrite"], pictures: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Read plain or rewritten answers from JSON lines.

    A plain answer is ``{"image": "5651380", "text": "A man in a boat."}`` or ``{"question": "Why?", "text": "..."}``, a
    rewritten one ``{"id": RECORD, "text": "..."}``.

    Args:
        path: The file.
        of: What it holds.
        pictures: As in `Distractors`.

    Returns:
        Texts, as `Distractors` takes them.

    Raises:
        ValueError: A line has another form; the message has its number.
        FileNotFoundError: There is no such file.
    """
    found: dict[str, str] = {}
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                text = row["text"]
                if of == "rewrite":
                    key = row["id"]
                else:
                    prompt = Record("", "T2T", row.get("question"), row.get("image"), "", None, "en")
                    key = group_key(prompt, pictures) if prompt.question or prompt.image else None
                if not (isinstance(text, str) and text.strip() and isinstance(key, str)):
                    raise TypeError("text or key is empty or no string")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                keys = "id and text" if of == "rewrite" else "image or question, and text"
                raise ValueError(
                    f"{Path(path).name}, line {number}: {error!r}; expected an object with {keys}"
                ) from None
            found[key] = text
    return found


def write_texts(rows: Iterable[Mapping[str, str]], path: str | os.PathLike[str]) -> None:
    """Write rows of `make_literals` or `make_rewrites` as JSON lines, atomically."""
    write_atomic(path, "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows))


def make_literals(
    backend: Backend,
    records: Iterable[Record],
    *,
    pictures: Mapping[str, bytes] | None = None,
    templates: Templates | None = None,
    skipped: Counter[str] | None = None,
) -> list[dict[str, str]]:
    """Let a model caption each picture and answer each question plainly, once a prompt.

    Args:
        backend: The model; it decodes greedily.
        records: Records.
        pictures: Encoded pictures by identifier; a prompt whose picture is not there is skipped.
        templates: The wording.
        skipped: Counts the reasons for prompts without text.

    Returns:
        Rows for `write_texts`, with ``image`` or ``question``, and ``text``.

    Example:
        >>> from clot import EchoBackend
        >>> rows = [Record("", "T2T", "Why?", None, "Why not?", 1, "en")]
        >>> make_literals(EchoBackend(answer=lambda request, at: "Because it is so."), rows)
        [{'question': 'Why?', 'text': 'Because it is so.'}]
    """
    templates = templates or Templates()
    skipped = Counter() if skipped is None else skipped
    prompts: dict[str, tuple[dict[str, str], Request]] = {}
    for one in records:
        name = group_key(one)
        if name in prompts:
            continue
        picture = None if one.image is None or pictures is None else pictures.get(one.image)
        if one.image is not None and picture is None:
            skipped["no picture to describe"] += 1
            continue
        text = templates.render("literal", one.lang, game_of(one.type, one.question), question=one.question or "")
        where = {"image": one.image} if one.image is not None else {"question": one.question or ""}
        prompts[name] = (where, Request(name, Prompt(text, picture), temperature=0.0))
    return _written(backend, list(prompts.values()), skipped)


def make_rewrites(
    backend: Backend,
    records: Iterable[Record],
    *,
    templates: Templates | None = None,
    skipped: Counter[str] | None = None,
) -> list[dict[str, str]]:
    """Let a model rewrite each answer as a plain remark.

    Args:
        backend: The model; it decodes greedily.
        records: Records.
        templates: The wording.
        skipped: Counts the reasons for answers without text.

    Returns:
        Rows for `write_texts`, with ``id`` and ``text``; a rewriting that repeats the answer is left out.
    """
    templates = templates or Templates()
    skipped = Counter() if skipped is None else skipped
    asked = []
    originals: dict[str, str] = {}
    for one in records:
        name = name_of(one)
        originals[name] = fold(one.text)
        text = templates.render("rewrite", one.lang, text=" ".join(one.text.split()))
        asked.append(({"id": name}, Request(name, Prompt(text), temperature=0.0)))
    rows = _written(backend, asked, skipped)
    kept = [row for row in rows if fold(row["text"]) != originals[row["id"]]]
    skipped["the rewriting repeats the answer"] += len(rows) - len(kept)
    return kept


def _written(
    backend: Backend, asked: Sequence[tuple[dict[str, str], Request]], skipped: Counter[str]
) -> list[dict[str, str]]:
    generations = backend.generate([request for _, request in asked]) if asked else []
    rows = []
    for (where, _), generation in zip(asked, generations, strict=True):
        text = " ".join(generation.texts[0].split())
        if text:
            rows.append(where | {"text": text})
        else:
            skipped["the model wrote nothing"] += 1
    return rows
