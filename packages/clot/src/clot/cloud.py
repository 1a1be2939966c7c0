"""Cloud guessing: what does the cloud in a picture look like? Four options, of which chance finds one in four.

The authors' pictures are not published: bring a folder ``<category>/*.png`` of one's own.

References:
    Zhong et al., Let's Think Outside the Box, 2024, arXiv:2312.02439, section 5.4.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oogiri_go import fold

from ._backend import Prompt
from ._draw import Draws
from ._pictures import MAX_BYTES, SUFFIXES
from ._question import Language, Question
from ._scorers import Scorer
from .metrics import chance, choice_accuracy, mean_interval, parse_rate

__all__ = ["DISTRACTORS", "CloudResult", "cloud_questions", "guess"]

DISTRACTORS = (
    *("chair", "cup", "sing", "jump", "rap", "basketball", "computer", "egg", "phone", "house", "lamp", "shoes"),
)
"""What the paper's wrong options are drawn from."""

OPTIONS = 4


@dataclass(frozen=True, slots=True)
class CloudResult:
    """How often the category of a picture was chosen.

    Attributes:
        accuracy: Share of questions answered with the category.
        interval: Bootstrap interval with whole pictures drawn again, for their questions are alike; or None.
        chance: What guessing gives.
        parse_rate: Share of answers that could be read; the others count as wrong.
        by_category: Accuracy of each category.
        questions: Number of questions.

    Example:
        >>> CloudResult(0.5, None, 0.25, 1.0, {"cat": 0.5}, 2).chance
        0.25
    """

    accuracy: float
    interval: tuple[float, float] | None
    chance: float
    parse_rate: float
    by_category: dict[str, float]
    questions: int


def cloud_questions(
    folder: str | os.PathLike[str],
    *,
    variants: int = 3,
    lang: Language = "en",
    distractors: Sequence[str] = DISTRACTORS,
    seed: int = 0,
) -> list[Question]:
    """Make questions of a folder of pictures: the name of the subfolder among three wrong options.

    Args:
        folder: Holds a folder for each category, named as the answer is worded, with pictures in it.
        variants: Number of wordings that each picture is asked with.
        lang: Language of the instruction.
        distractors: Wrong options to draw from; a category of the folder is never a wrong option of its own pictures.
        seed: Another number draws others.

    Returns:
        Questions, in the order of categories and file names; ``id`` is ``category/file#variant``.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has no picture, or there are too few distractors, or a picture is larger than 64 MiB.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "cat").mkdir()
        ...     _ = Path(folder, "cat", "1.png").write_bytes(b"...")
        ...     for one in cloud_questions(folder):
        ...         print(one.id, one.options[one.answer[0]], len(one.options))
        cat/1.png#0 cat 4
        cat/1.png#1 cat 4
        cat/1.png#2 cat 4
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(folder)!r}")
    if variants < 1:
        raise ValueError(f"variants is {variants}; expected at least 1 question a picture")
    questions = []
    for path in sorted(root.glob("*/*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        category = path.parent.name
        wrong = [one for one in dict.fromkeys(distractors) if fold(one) != fold(category)]
        if len(wrong) < OPTIONS - 1:
            raise ValueError(f"{len(wrong)} distractors for {category!r}; expected at least {OPTIONS - 1}")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"the picture {category}/{path.name} is larger than {MAX_BYTES >> 20} MiB")
        data = path.read_bytes()
        for variant in range(variants):
            name = f"{category}/{path.name}#{variant}"
            draws = Draws(seed, "cloud", name)
            texts = [category, *(wrong[at] for at in draws.shuffled(len(wrong))[: OPTIONS - 1])]
            order = draws.shuffled(OPTIONS)
            questions.append(
                Question(
                    name,
                    Prompt("", data),
                    tuple(texts[at] for at in order),
                    lang,
                    "I2T",
                    answer=(order.index(0),),
                    wording="cloud",
                    variant=variant,
                )
            )
    if not questions:
        raise ValueError(f"the folder {root.name} has no picture; expected <category>/*.png")
    return questions


def guess(scorer: Scorer, questions: Sequence[Question], *, seed: int = 0) -> CloudResult:
    """Let a model guess.

    Args:
        scorer: Asks the model.
        questions: From `cloud_questions`.
        seed: Seed of the interval.

    Returns:
        Accuracy and what belongs beside it.

    Raises:
        ValueError: There is no question.

    Example:
        >>> from clot import EchoBackend, LetterScorer
        >>> asked = [Question("cat/1.png#0", Prompt("", b"..."), ("egg", "cat"), "en", answer=(1,), wording="cloud")]
        >>> sees_a_cat = EchoBackend(logprob=lambda prompt, letter: float(f"{letter}. cat" in prompt.text))
        >>> guess(LetterScorer(sees_a_cat), asked).accuracy
        1.0
    """
    if not questions:
        raise ValueError("there is no question to ask")
    choices = [one.choice for one in scorer.select(questions)]
    answers = [one.answer for one in questions]
    right = [float(choice == answer) for choice, answer in zip(choices, answers, strict=True)]
    pictures = [one.id.rpartition("#")[0] for one in questions]
    by_category: dict[str, list[float]] = {}
    for one, hit in zip(questions, right, strict=True):
        by_category.setdefault(one.id.partition("/")[0], []).append(hit)
    return CloudResult(
        accuracy=choice_accuracy(choices, answers),
        interval=mean_interval(right, groups=pictures, seed=seed),
        chance=chance(OPTIONS),
        parse_rate=parse_rate(choices),
        by_category={category: sum(hits) / len(hits) for category, hits in by_category.items()},
        questions=len(questions),
    )
