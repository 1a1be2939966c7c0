"""Associable instruction tuning: what a model is taught to answer, in four kinds and three games.

References:
    Zhong et al., Let's Think Outside the Box: Exploring Leap-of-Thought in Large Language Models with Creative Humor
    Generation, 2024, arXiv:2312.02439.
"""

from dataclasses import dataclass
from typing import Literal

from ._backend import Prompt
from ._question import Game, Language

Kind = Literal["generate", "condition", "select", "rank", "mask"]
KINDS: tuple[Kind, ...] = ("generate", "condition", "select", "rank", "mask")


@dataclass(frozen=True, slots=True)
class Instruction:
    """A prompt and what the model should answer.

    Attributes:
        id: The same on every machine for the same records, mix and seed.
        kind: ``"generate"``, ``"condition"``, ``"select"``, ``"rank"`` or ``"mask"``.
        game: The game.
        lang: The language of the instruction and of the answer.
        prompt: What the model reads.
        target: What it should answer.
        record_id: The record that the target, or the best option, is from.
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
