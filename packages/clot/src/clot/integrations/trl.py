"""Data and rewards for TRL's trainers: supervised, preference, and relative to a group of answers.

`train_ait` is the package's own loop, with an exact resume and a loss by kind. What is here serves TRL's methods: SFT
on the same instructions, DPO on rated answers, GRPO and RLOO with a scorer as the judge.

References:
    Rafailov et al., Direct Preference Optimization, 2023, arXiv:2305.18290. Shao et al., DeepSeekMath, 2024,
    arXiv:2402.03300 (GRPO). Ahmadian et al., Back to Basics, 2024, arXiv:2402.14740 (RLOO).
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from oogiri_go import Record, group_key, ranking_pairs
from oogiri_go.runs import needs

from clot._backend import Prompt
from clot._instructions import Instruction
from clot._question import MAX_OPTIONS, Question
from clot._scorers import Scorer
from clot._templates import Templates, game_of, one_line

__all__ = ["Reward", "humor_reward", "to_dpo", "to_prompts", "to_sft"]


class Reward(Protocol):
    """A reward function as TRL's GRPO and RLOO trainers call it."""

    __name__: str

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> list[float]:
        """Give one number for each completion."""


def to_sft(instructions: Iterable[Instruction], *, pictures: Mapping[str, bytes] | None = None) -> Any:
    """Write instructions as the data set of TRL's ``SFTTrainer``; set ``SFTConfig(max_length=None)``.

    Args:
        instructions: The instructions.
        pictures: Encoded pictures by identifier, for instructions that hold none.

    Returns:
        A ``datasets.Dataset`` of ``images`` (a list, empty without picture), ``prompt`` and ``completion``, each a
        conversation, so that the loss is on the completion alone.

    Raises:
        ValueError: A picture is not there.
    """
    rows = []
    for one in instructions:
        image = one.prompt.image or _picture(one.id, one.image, pictures)
        rows.append({"images": _images(image), "prompt": _user(one.prompt.text), "completion": _assistant(one.target)})
    return _dataset(rows, "prompt", "completion")


def to_dpo(
    records: Iterable[Record],
    *,
    pictures: Mapping[str, bytes] | None = None,
    templates: Templates | None = None,
    per_prompt: int | None = None,
    seed: int = 0,
) -> Any:
    """Write pairs of rated answers as the data set of TRL's ``DPOTrainer``.

    A pair is written only where people's ratings tell its answers apart: ``|m1 - m2| >= 2 sqrt(se1^2 + se2^2)``,
    with the means and standard errors ``rating_mean`` and ``rating_se`` of ``Record.extra``. Likes are not used: they
    grow with how often an answer was shown.

    Args:
        records: Records.
        pictures: Encoded pictures by identifier; None writes prompts without their pictures' bytes and refuses records
            that have one.
        templates: The wording; None takes the built-in one.
        per_prompt: At most so many pairs of a prompt, chosen by hash; None takes all.
        seed: Another number chooses others.

    Returns:
        A ``datasets.Dataset`` of ``images``, ``prompt``, ``chosen`` and ``rejected``.

    Raises:
        ValueError: No two answers are told apart by ratings, or a picture is not there.
    """
    templates = templates or Templates()
    rows = []
    for pair in ranking_pairs(records, by="rating", per_prompt=per_prompt, seed=seed):
        image = _picture(pair.chosen.id, pair.chosen.image, pictures)
        prompt = _user(_ask(templates, pair.chosen))
        chosen, rejected = _assistant(pair.chosen.text), _assistant(pair.rejected.text)
        rows.append({"images": _images(image), "prompt": prompt, "chosen": chosen, "rejected": rejected})
    if not rows:
        raise ValueError(
            "no two answers to one prompt have ratings two standard errors apart; records need rating_mean and "
            "rating_se in their extra fields (likes are no ratings)"
        )
    return _dataset(rows, "prompt", "chosen", "rejected")


def to_prompts(
    records: Iterable[Record],
    *,
    pictures: Mapping[str, bytes] | None = None,
    templates: Templates | None = None,
) -> Any:
    """Write each prompt once, as the data set of TRL's ``GRPOTrainer`` and ``RLOOTrainer`` with `humor_reward`.

    Args:
        records: Records; of those with one prompt and language the first is taken.
        pictures: Encoded pictures by identifier.
        templates: The wording; None takes the built-in one.

    Returns:
        A ``datasets.Dataset`` of ``images`` and ``prompt``, and of what the reward needs: ``question``, ``lang`` and
        ``game``.

    Raises:
        ValueError: A picture is not there.
    """
    templates = templates or Templates()
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in records:
        key = (one.lang, one.type, group_key(one))
        if key not in rows:
            image = _picture(one.id, one.image, pictures)
            about = {"question": one.question or "", "lang": one.lang, "game": one.type}
            rows[key] = {"images": _images(image), "prompt": _user(_ask(templates, one)), **about}
    return _dataset([*rows.values()], "prompt")


def humor_reward(scorer: Scorer) -> Reward:
    """Make a scorer the judge of answers to one prompt.

    reward = share of the other different answers to the prompt that it beats by score, equal scores counting half

    Equal answers have equal rewards. An empty answer has 0, and so has one to which there is no other: a group of one
    answer teaches nothing. The reward depends on the order of the scores alone, so that letters, log-likelihoods and
    parsed rankings are on one scale; a group that the scorer cannot read has 0.5 throughout.

    Args:
        scorer: The judge, such as ``LetterScorer(backend)``.

    Returns:
        ``reward(completions, **kwargs) -> list[float]``, numbers from 0 to 1. ``kwargs`` are the columns of
        `to_prompts` as the trainer repeats them.

    Example:
        >>> from clot import ContentScorer, EchoBackend
        >>> reward = humor_reward(ContentScorer(EchoBackend(logprob=lambda prompt, option: float(len(option)))))
        >>> columns = {"question": ["Why?"] * 4, "lang": ["en"] * 4, "game": ["T2T"] * 4}
        >>> reward(["No.", "Tuesday, my dear.", "", "Because."], **columns)
        [0.0, 0.5, 0.0, 1.0]
    """

    def humor(completions: Sequence[Any], **kwargs: Any) -> list[float]:
        texts = [one_line(_text(one)) for one in completions]
        groups: dict[tuple[Any, ...], list[int]] = {}
        heads = _heads(len(texts), kwargs)
        for at, (head, lang, game) in enumerate(heads):
            if texts[at]:
                groups.setdefault((head, lang, game), []).append(at)
        rewards = [0.0] * len(texts)
        asked: list[tuple[Question, tuple[str, ...], list[int]]] = []
        for (head, lang, game), places in groups.items():
            several = _different([texts[at] for at in places])
            for start in range(0, len(several), MAX_OPTIONS):
                options = tuple(several[start : start + MAX_OPTIONS])
                if len(options) > 1:
                    name = f"reward {len(asked)}"
                    asked.append((Question(name, head, options, lang, game), options, places))
        scored = scorer.rank([question for question, _, _ in asked]) if asked else []
        for (_, options, places), found in zip(asked, scored, strict=True):
            shares = [0.5] * len(options) if found.scores is None else _beaten(found.scores)
            given = dict(zip(map(_fold, options), shares, strict=True))
            for at in places:
                if (share := given.get(_fold(texts[at]))) is not None:
                    rewards[at] = share
        return rewards

    return humor


def _heads(count: int, columns: Mapping[str, Any]) -> list[tuple[Prompt, Any, Any]]:
    missing = [name for name in ("question", "lang", "game") if len(columns.get(name, ())) != count]
    if missing:
        raise ValueError(
            f"the reward needs the column {missing[0]!r} with one value for each of {count} completions; "
            "train on the data set of to_prompts"
        )
    images = columns.get("images") or [()] * count
    known: dict[int, bytes] = {}
    heads = []
    for question, lang, game, pictures in zip(
        columns["question"], columns["lang"], columns["game"], images, strict=True
    ):
        image = None
        if pictures:
            image = known.setdefault(id(pictures[0]), _encoded(pictures[0]))
        heads.append((Prompt(question, image), lang, game))
    return heads


def _beaten(scores: Sequence[float]) -> list[float]:
    """Share of the others that each beats; equal scores count half."""
    return [(sum((one > other) + (one == other) / 2 for other in scores) - 0.5) / (len(scores) - 1) for one in scores]


def _different(texts: Iterable[str]) -> list[str]:
    return [*{_fold(text): text for text in texts}.values()]


def _fold(text: str) -> str:
    from oogiri_go import fold

    return fold(text) or text


def _text(completion: Any) -> str:
    """The words of a completion: a string, or a conversation whose content is a string or parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def _encoded(picture: Any) -> bytes:
    if isinstance(picture, bytes):
        return picture
    file = io.BytesIO()
    picture.convert("RGB").save(file, "PNG")
    return file.getvalue()


def _ask(templates: Templates, record: Record) -> str:
    game = game_of(record.type, record.question)
    return templates.render("generate", record.lang, game, question=record.question or "")


def _picture(name: str, image: str | None, pictures: Mapping[str, bytes] | None) -> bytes | None:
    if image is None:
        return None
    if pictures is None or image not in pictures:
        raise ValueError(f"record {name}: its picture {image!r} is not there; give pictures that hold it")
    return pictures[image]


def _images(data: bytes | None) -> list[dict[str, Any]]:
    return [] if data is None else [{"bytes": data, "path": None}]


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _dataset(rows: list[dict[str, Any]], *conversations: str) -> Any:
    """A data set whose columns have their types even where the first rows have no picture."""
    with needs("sail-clot", "trl"):
        from datasets import Dataset, Features, Image, List, Value  # type: ignore[import-untyped]

    message = List({"role": Value("string"), "content": Value("string")})
    types: dict[str, Any] = {"images": List(Image())} | dict.fromkeys(conversations, message)
    for name in rows[0] if rows else ():
        types.setdefault(name, Value("string"))
    columns = {name: [row[name] for row in rows] for name in types}
    return Dataset.from_dict(columns, features=Features(types))
