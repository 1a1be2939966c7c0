"""The prompts of the toy world: keywords as users write them, and the same pictures told in sentences."""

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "tuning", "test"]
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")


@dataclass(frozen=True)
class Prompt:
    """A narrative prompt and what its picture must show.

    Attributes:
        suite: "mention" (the digit by another name), "reasoning" (the digit must be inferred), "colour" (the colour
            by a thing that has it) or "counting".
        narrative: The sentence.
        complex: The keywords that a practised user would have written for the same picture.
        target: What the picture must show: the digit, the index of the colour, or the count less one.
        digit: The digit of the picture; for counting the count less one.
        colour: Index into `COLOURS`.
        fresh: Whether the words that name the target stand in no training prompt.
    """

    suite: str
    narrative: str
    complex: str
    target: int
    digit: int
    colour: int
    fresh: bool = False


@cache
def words() -> dict[str, Any]:
    """The word lists."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "words.json").read_text(encoding="utf-8"))
    return found


def complex_prompt(digit: int, colour: int, draw: random.Random) -> str:
    """Keywords for a tinted digit, with two to four tags in any order."""
    lists = words()
    tags = draw.sample(lists["tags"], draw.randint(2, 4))
    return ", ".join([f"digit {lists['digits'][digit]}", f"{COLOURS[colour]} ink", *tags])


def complex_count(count: int, draw: random.Random) -> str:
    """Keywords for a canvas with `count` digits."""
    lists = words()
    tags = draw.sample(lists["tags"], draw.randint(2, 4))
    return ", ".join([f"count {lists['digits'][count]}", "handwritten digits", *tags])


def sums(digit: int) -> tuple[list[str], list[str]]:
    """Arithmetic phrases whose value is the digit: those for training, and those that no training prompt holds."""
    word = words()["digits"]
    phrases = [f"the sum of {word[a]} and {word[digit - a]}" for a in range(digit + 1)]
    phrases += [f"{word[b]} minus {word[b - digit]}" for b in range(digit, 10)]
    phrases += [f"one more than {word[digit - 1]}"] if digit else []
    phrases += [f"one less than {word[digit + 1]}"] if digit < 9 else []
    kept = random.Random(digit).sample(phrases, len(phrases))  # the same in every run
    cut = max(2, len(kept) // 4)
    return kept[cut:], kept[:cut]


def narrative(suite: str, split: Split, draw: random.Random) -> Prompt:
    """Draw a prompt of a suite; tuning and test prompts stand in frames that no training prompt has."""
    lists = words()
    if suite == "counting":
        count = draw.randrange(4)
        frame = draw.choice(lists["counts"]["frames"][split])
        text = frame.format(count=draw.choice(lists["counts"]["names"][count]))
        return Prompt(suite, text, complex_count(count + 1, draw), count, count, COLOURS.index("white"))
    digit, colour, fresh = draw.randrange(10), draw.randrange(len(COLOURS)), False
    tint, told, target = COLOURS[colour], f"the digit {lists['digits'][digit]}", digit
    if suite == "mention":
        told = f"a {draw.choice(lists['names'][digit])}"
    elif suite == "colour":
        tint, target = f"{draw.choice(lists['colours'][tint])} coloured", colour
    elif suite == "reasoning":
        known, held_out = sums(digit)
        facts = [f"the number of {fact}" for fact in lists["facts"][digit]]
        fresh = split != "train" and draw.random() < 0.5
        told = draw.choice(held_out if fresh else [*known, *facts, *facts])
    else:
        raise ValueError(f"there is no suite {suite!r}; the suites are mention, reasoning, colour, counting")
    text = draw.choice(lists["frames"][split]).format(digit=told, colour=tint)
    return Prompt(suite, text, complex_prompt(digit, colour, draw), target, digit, colour, fresh)


def draw_prompts(suite: str, split: Split, count: int, *, seed: int) -> list[Prompt]:
    """Draw prompts of a suite, the same for the same arguments."""
    draw = random.Random(f"{suite} {split} {seed}")
    return [narrative(suite, split, draw) for _ in range(count)]


def vocabulary() -> list[str]:
    """Every word that a prompt can hold, sorted."""
    lists = words()
    texts: list[str] = ["digit ink count the number of coloured a , minus sum and more less than handwritten digits"]
    texts += [*lists["digits"], *lists["tags"], *COLOURS]
    texts += [name for names in (*lists["names"], *lists["facts"], *lists["counts"]["names"]) for name in names]
    texts += [thing for things in lists["colours"].values() for thing in things]
    frames = [*lists["frames"].values(), *lists["counts"]["frames"].values()]
    texts += [frame.format(digit="", colour="", count="") for split in frames for frame in split]
    return sorted({word for text in texts for word in text.split()})
