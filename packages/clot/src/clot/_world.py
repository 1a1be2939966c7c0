"""A world of coloured shapes, small enough to be learnt in seconds: pictures, captions, funny answers and their likes.

A prompt is a shape of one colour, drawn somewhere in a picture or named in a question. A literal caption says what is
there. A funny answer leaps: the colour becomes a thing, the shape becomes what that thing does, and a noun with which
neither has anything to do comes in ("the lobster spins past a banker."). The further the leap, the more likes: of the
three things and three acts of a colour and a shape, the later ones are less expected. Which answer belongs to which
picture can therefore be learnt, and so can which answer of one picture is liked best.
"""

import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from oogiri_go import Record, record_id

from ._backend import Prompt
from ._instructions import Instruction
from ._question import Game

__all__ = ["World", "make_world"]

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (30, 170, 60),
    "blue": (40, 70, 220),
    "yellow": (240, 210, 30),
    "purple": (150, 50, 190),
    "white": (245, 245, 245),
}
THINGS: Mapping[str, tuple[str, str, str]] = {
    "red": ("tomato", "lobster", "sunburn"),
    "green": ("frog", "cactus", "envy"),
    "blue": ("whale", "blueberry", "monday"),
    "yellow": ("banana", "duckling", "taxi"),
    "purple": ("grape", "octopus", "bruise"),
    "white": ("ghost", "iceberg", "toothpaste"),
}
ACTS: Mapping[str, tuple[str, str, str]] = {
    "circle": ("rolls to", "spins past", "orbits"),
    "square": ("sits on", "stacks", "unboxes"),
    "triangle": ("points at", "pokes", "balances"),
    "cross": ("blocks", "forbids", "hugs"),
    "ring": ("swallows", "marries", "hulas around"),
}
NOUNS = (
    *("banker", "dentist", "lawyer", "plumber", "pirate", "wizard", "referee", "barber"),
    *("teapot", "trumpet", "ladder", "stapler", "umbrella", "toaster", "sofa", "bathtub"),
    *("camel", "penguin", "moose", "poodle", "opera", "tax", "diet", "alarm"),
)
QUESTIONS = ("What happens when a {} walks into a bar?", "Why was the {} late?", "What does a {} dream of?")
BLANK = "Today the {} [MASK]"
_LITERAL = ("Describe the picture.", "Write a sentence.")
_BACKGROUND = (96, 96, 96)


@dataclass(frozen=True, slots=True)
class World:
    """What `make_world` made.

    Attributes:
        records: Answers in Oogiri-GO's schema, all answers of a prompt together; ``extra["split"]`` is ``"train"`` or
            ``"test"``, and a prompt is in one of them.
        pictures: Encoded pictures (PNG) by the identifier that stands in ``Record.image``.
        captions: What is literally in a picture, by the same identifier.
        nouns: The nouns that answers use, none of which is related to a colour or a shape.
    """

    records: tuple[Record, ...]
    pictures: Mapping[str, bytes]
    captions: Mapping[str, str]
    nouns: tuple[str, ...] = NOUNS

    def split(self, name: str) -> list[Record]:
        """Give the records of ``"train"`` or ``"test"``."""
        return [one for one in self.records if one.extra["split"] == name]

    def texts(self) -> list[str]:
        """Give every text of the world, for a tokenizer that knows its words."""
        questions = [one.question for one in self.records if one.question is not None]
        return [*questions, *self.captions.values(), *(one.text for one in self.records), *self.nouns, *_LITERAL]

    def literal(self, *, seed: int = 0) -> list[Instruction]:
        """Give what a model without humour knows: each picture's caption, and half as many sentences.

        The sentences join things, acts and nouns at random, so the words are known and nothing of what belongs to what.
        """
        rng = random.Random(f"literal {seed}")
        things = [thing for three in THINGS.values() for thing in three]
        acts = [act for three in ACTS.values() for act in three]
        describe, write = (Prompt(text) for text in _LITERAL)
        found = [
            Instruction(f"c-{name}", "generate", "I2T", "en", replace(describe, image=data), text, name, image=name)
            for (name, data), text in zip(self.pictures.items(), self.captions.values(), strict=True)
        ]
        for at in range(max(1, len(found) // 2)):
            text = _sentence(rng.choice(things), rng.choice(acts), rng.choice(NOUNS))
            found.append(Instruction(f"s-{at:05d}", "generate", "T2T", "en", write, text, f"s-{at:05d}"))
        return found


def make_world(
    *,
    seed: int = 0,
    prompts: int = 60,
    answers: int = 6,
    games: Sequence[Game] = ("I2T", "T2T", "IT2T"),
    test: float = 0.25,
    side: int = 56,
) -> World:
    """Make prompts in turn for each game, pictures for those that need one, and answers with likes.

    likes = 1 + 9 rank(thing) + 3 rank(act) + (0, 1 or 2), ranks 0, 1, 2: all answers of a prompt differ in likes

    Args:
        seed: Another number makes another world of the same kind.
        prompts: Number of prompts, at least 1.
        answers: Answers of each prompt, 1 to 9, no two with the same thing and act.
        games: Games to take turns, of ``"I2T"``, ``"T2T"`` and ``"IT2T"``.
        test: Share of the prompts that are kept for testing, from 0 to 1.
        side: Width and height of a picture in pixels, at least 16.

    Returns:
        The world; the same arguments give the same bytes.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> world = make_world(prompts=4, answers=2)
        >>> for record in world.records[:2]:
        ...     print(record.type, world.captions[record.image], "|", record.text, record.star)
        I2T a purple ring. | the grape swallows a bathtub. 3
        I2T a purple ring. | the bruise swallows a bathtub. 19
    """
    for name, value, low, high in (("answers", answers, 1, 9), ("prompts", prompts, 1, math.inf), ("test", test, 0, 1)):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected a number from {low} to {high}")
    if not games or set(games) - {"I2T", "T2T", "IT2T"}:
        raise ValueError(f"games is {games!r}; expected some of 'I2T', 'T2T' and 'IT2T'")
    if side < 16:
        raise ValueError(f"side is {side}; a picture has at least 16 pixels a side")
    rng = random.Random(f"world {seed}")
    kinds = [(colour, shape) for colour in COLOURS for shape in ACTS]
    records: list[Record] = []
    pictures: dict[str, bytes] = {}
    captions: dict[str, str] = {}
    splits: dict[str, str] = {}  # a question that comes twice is one prompt
    held_out = set(rng.sample(range(prompts), round(test * prompts)))
    for at in range(prompts):
        if at % len(kinds) == 0:
            rng.shuffle(kinds)
        colour, shape = kinds[at % len(kinds)]
        game = games[at % len(games)]
        image = question = None
        if game != "T2T":
            image = f"w{seed}-{at:05d}"
            pictures[image] = _draw(colour, shape, side, rng)
            captions[image] = f"a {colour} {shape}."
        if game == "T2T":
            question = rng.choice(QUESTIONS).format(f"{colour} {shape}")
        elif game == "IT2T":
            question = BLANK.format(shape)
        split = splits.setdefault(image or question or "", "test" if at in held_out else "train")
        for thing, act in rng.sample([(thing, act) for thing in range(3) for act in range(3)], answers):
            text = _sentence(THINGS[colour][thing], ACTS[shape][act], rng.choice(NOUNS))
            star = 1 + 9 * thing + 3 * act + rng.randrange(3)
            name = record_id(lang="en", type=game, question=question, image=image, text=text)
            records.append(
                Record(name, game, question, image, text, star, "en", source="tiny world", extra={"split": split})
            )
    return World(tuple(records), pictures, captions)


def _sentence(thing: str, act: str, noun: str) -> str:
    return f"the {thing} {act} {'an' if noun[0] in 'aeiou' else 'a'} {noun}."


def _draw(colour: str, shape: str, side: int, rng: random.Random) -> bytes:
    from PIL import Image, ImageDraw

    radius = side * rng.uniform(0.24, 0.36)
    x, y = (rng.uniform(radius + 1, side - radius - 1) for _ in range(2))
    box = (x - radius, y - radius, x + radius, y + radius)
    image = Image.new("RGB", (side, side), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    ink = COLOURS[colour]
    thick = max(2, round(radius * 0.4))
    if shape == "circle":
        draw.ellipse(box, fill=ink)
    elif shape == "square":
        draw.rectangle(box, fill=ink)
    elif shape == "triangle":
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=ink)
    elif shape == "cross":
        draw.line([(x - radius, y - radius), (x + radius, y + radius)], fill=ink, width=thick)
        draw.line([(x - radius, y + radius), (x + radius, y - radius)], fill=ink, width=thick)
    else:
        draw.ellipse(box, outline=ink, width=thick)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
