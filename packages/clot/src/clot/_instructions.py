"""Associable instruction tuning: what a model is taught to answer, in four kinds and three games.

Differences from the paper: the wording is ours; a record that lacks what a kind needs (nouns, distractors, stars) gives
none of that kind, and the number is reported; gaps hide nouns only.

References:
    Zhong et al., Let's Think Outside the Box: Exploring Leap-of-Thought in Large Language Models with Creative Humor
    Generation, 2024, arXiv:2312.02439.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

from oogiri_go import Record, fold, group_key

from ._backend import Prompt
from ._choices import RANKED, choice_options, head_of, prompts_of
from ._draw import Draws
from ._mix import InstructionMix
from ._nouns import Tagger, nouns_of
from ._question import Game, Language
from ._templates import Templates, game_of, one_line
from .distractors import Distractors, name_of

__all__ = ["KINDS", "Instruction", "InstructionMix", "Kind", "build_instructions"]

Kind = Literal["generate", "condition", "select", "rank", "mask"]
KINDS: tuple[Kind, ...] = ("generate", "condition", "select", "rank", "mask")
GAP = "[MASK]"


@dataclass(frozen=True, slots=True)
class Instruction:
    """A prompt and what the model should answer.

    Attributes:
        id: The same on every machine for the same record, kind and number.
        kind: ``"generate"``, ``"condition"``, ``"select"``, ``"rank"`` or ``"mask"``.
        game: The game.
        lang: The language of the instruction and of the answer.
        prompt: What the model reads.
        target: What it should answer.
        record_id: The record that it was made of.
        options: The options in the order shown, for ``"select"`` and ``"rank"``.
        answer: Positions of the right options, ascending (``"select"``), or of all, best first (``"rank"``).
        image: The identifier of the picture, or None; its bytes are in ``prompt`` where they were given.
    """

    id: str
    kind: Kind
    game: Game
    lang: Language
    prompt: Prompt
    target: str
    record_id: str
    options: tuple[str, ...] = ()
    answer: tuple[int, ...] = ()
    image: str | None = None


def build_instructions(
    records: Sequence[Record],
    mix: InstructionMix | None = None,
    *,
    seed: int = 0,
    nouns: Tagger | Callable[[Record], Sequence[str]] = "tagger",
    distractors: Distractors | None = None,
    pictures: Mapping[str, bytes] | None = None,
    templates: Templates | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[Instruction]:
    r"""Make instructions of records. The same arguments give the same instructions, byte for byte, on every machine.

    What a record gives depends on the record, the other answers to its prompt and the seed, not on its place.

    Args:
        records: Records of the training split.
        mix: Shares of the kinds and number of instructions; None takes the default.
        seed: Another number gives others.
        nouns: Where the conditions of an answer come from: a method of `nouns_of`, or a function that gives the nouns
            of a record.
        distractors: Wrong options; None knows only answers to other prompts, which no task can be made of alone.
        pictures: Encoded pictures by identifier; None leaves them out of the prompts.
        templates: The wording; None takes the built-in one.
        skipped: Counts what could not be made, by kind and reason.

    Yields:
        Instructions in the order of the records; whoever trains on them shuffles.

    Raises:
        MissingExtra, ValueError: As in `nouns_of`, when conditions or gaps are wanted.

    Example:
        >>> rows = [Record("", "T2T", "Why me?", None, "Ask the cactus.", 5, "en")]
        >>> mix = InstructionMix(select=0, rank=0, mask=0, p_empty=0, per_record=1)
        >>> for one in build_instructions(rows, mix, nouns="heuristic"):
        ...     print(one.kind, "|", one.prompt.text.rpartition("\n")[2], "|", one.target)
        condition | Condition: cactus | Ask the cactus.
    """
    builder = _Builder(
        records=records,
        mix=mix or InstructionMix(),
        seed=seed,
        nouns=nouns,
        distractors=distractors or Distractors(records, seed=seed),
        templates=templates or Templates(),
        skipped=Counter() if skipped is None else skipped,
    )
    for record in records:
        head = head_of(record, pictures)
        if head is None:
            builder.skipped["no picture"] += 1
        else:
            yield from builder.of(record, head)


class _Builder:
    """Makes the instructions of one record after another."""

    def __init__(
        self,
        *,
        records: Sequence[Record],
        mix: InstructionMix,
        seed: int,
        nouns: Tagger | Callable[[Record], Sequence[str]],
        distractors: Distractors,
        templates: Templates,
        skipped: Counter[str],
    ) -> None:
        self.skipped = skipped
        self._mix = mix
        self._seed = seed
        self._nouns = nouns
        self._distractors = distractors
        self._templates = templates
        self._expected = list(mix.expected().items())
        self._makers = {"answer": self._answer, "select": self._select, "rank": self._rank, "mask": self._mask}
        self._prompts = prompts_of(records) if mix.select or mix.rank else {}
        self._found: tuple[Record | None, Sequence[str]] = (None, ())

    def of(self, record: Record, head: Prompt) -> Iterator[Instruction]:
        name = name_of(record)
        draws = Draws(self._seed, "instructions", name)
        for share, expected in self._expected:
            whole = int(expected)
            for copy in range(whole + (draws.uniform() < expected - whole)):
                made = self._makers[share](record, head, Draws(self._seed, share, name, str(copy)), name, copy)
                if isinstance(made, str):
                    self.skipped[f"{share}: {made}"] += 1
                else:
                    yield made

    def _words(self, record: Record) -> Sequence[str]:
        """Nouns of the record, found once."""
        if self._found[0] is not record:
            if callable(self._nouns):
                self._found = record, self._nouns(record)
            else:
                self._found = record, nouns_of(record.text, record.lang, method=self._nouns)
        return self._found[1]

    def _answer(self, record: Record, head: Prompt, draws: Draws, name: str, copy: int) -> Instruction | str:
        kind: Kind = "generate"
        condition = ""
        if draws.uniform() >= self._mix.p_empty:
            words = self._words(record)
            if not words:
                return "no noun in the answer"
            kind, condition = "condition", words[draws.below(len(words))]
        return self._made(record, head, draws, name, copy, kind, record.text, condition=condition)

    def _select(self, record: Record, head: Prompt, draws: Draws, name: str, copy: int) -> Instruction | str:
        task = self._mix.tasks[draws.below(len(self._mix.tasks))]
        second = self._second(record, draws) if task == "5T2" else None
        made = choice_options(record, task, self._distractors, second=second, draws=draws)
        if isinstance(made, str):
            return f"{task}, {made}"
        options, answer = made
        target = "\n".join(f"{ascii_uppercase[at]}. {one_line(options[at])}" for at in answer)
        return self._made(record, head, draws, name, copy, "select", target, options=options, answer=answer)

    def _second(self, record: Record, draws: Draws) -> str | None:
        """Another answer to the prompt."""
        group = self._prompts[record.lang, record.type, group_key(record)]
        for _ in range(min(8, 4 * (len(group) - 1))):
            other = group[draws.below(len(group))].text
            if fold(other) != fold(record.text):
                return other
        return next((one.text for one in group if fold(one.text) != fold(record.text)), None)

    def _rank(self, record: Record, head: Prompt, draws: Draws, name: str, copy: int) -> Instruction | str:
        if record.star is None:
            return "the likes are not known"
        group = self._prompts[record.lang, record.type, group_key(record)]
        chosen = {record.star: record.text}
        keys = {fold(record.text)}
        for at in draws.shuffled(len(group)) if len(group) >= RANKED else ():
            other = group[at]
            if other.star is not None and other.star not in chosen and (key := fold(other.text)) not in keys:
                chosen[other.star] = other.text
                keys.add(key)
                if len(chosen) == RANKED:
                    break
        if len(chosen) < RANKED:
            return f"fewer than {RANKED} answers with different likes"
        stars = list(chosen)
        shown = [stars[at] for at in draws.shuffled(RANKED)]
        options = tuple(chosen[star] for star in shown)
        order = tuple(sorted(range(RANKED), key=lambda at: -shown[at]))
        target = "\n".join(
            f"{place}. {ascii_uppercase[at]}. {one_line(options[at])}" for place, at in enumerate(order, 1)
        )
        return self._made(record, head, draws, name, copy, "rank", target, options=options, answer=order)

    def _mask(self, record: Record, head: Prompt, draws: Draws, name: str, copy: int) -> Instruction | str:
        if record.type == "IT2T":
            return "the text of an IT2T record has its own gap"
        words = self._words(record)
        if not words:
            return "no noun in the answer"
        at, hidden = _place(record.text, words[draws.below(len(words))])
        if at < 0 or hidden == record.text.strip():
            return "the noun cannot be hidden"
        text = record.text[:at] + GAP + record.text[at + len(hidden) :]
        return self._made(record, head, draws, name, copy, "mask", hidden, text=one_line(text))

    def _made(
        self,
        record: Record,
        head: Prompt,
        draws: Draws,
        name: str,
        copy: int,
        kind: Kind,
        target: str,
        *,
        options: tuple[str, ...] = (),
        answer: tuple[int, ...] = (),
        condition: str = "",
        text: str = "",
    ) -> Instruction:
        game = game_of(record.type, record.question)
        message = self._templates.render(
            kind,
            record.lang,
            game,
            variant=draws.below(1 << 16),
            question=record.question or "",
            condition=condition,
            options=options,
            n=len(answer),
            text=text,
        )
        return Instruction(
            f"{name}-{kind}-{copy}",
            kind,
            record.type,
            record.lang,
            Prompt(message, head.image),
            target,
            name,
            options,
            answer,
            record.image,
        )


def _place(text: str, noun: str) -> tuple[int, str]:
    """Where a noun stands in a text, as a word of its own where letters have cases, and how it is written there."""
    at = text.lower().find(noun.lower()) if len(text.lower()) == len(text) else text.find(noun)
    if at < 0:
        return -1, ""
    end = at + len(noun)
    if noun.isascii():
        while at >= 0:
            end = at + len(noun)
            before, after = text[at - 1 : at], text[end : end + 1]
            if not before.isalnum() and not after.isalnum():
                break
            at = text.lower().find(noun.lower(), at + 1)
    return at, text[at:end]
