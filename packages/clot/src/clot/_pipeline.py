"""The paper's inference: several answers under weakly associated conditions, of which the model itself chooses one.

References:
    Zhong et al., Let's Think Outside the Box: Exploring Leap-of-Thought in Large Language Models with Creative Humor
    Generation, 2024, arXiv:2312.02439, algorithm 1.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from oogiri_go import Record, fold, language, record_id

from ._backend import Backend, Prompt, Request
from ._conditions import ConditionSampler
from ._draw import draw
from ._nouns import NounSet
from ._picture_of import checked_picture, picture_of
from ._question import Question
from ._scorers import ScorerName, scorer_of
from ._stages import Sampling, ask, tidy
from ._templates import Templates, game_of


@dataclass(frozen=True, slots=True)
class Proposal:
    """One of the answers that a leap chose from.

    Attributes:
        text: The answer.
        condition: The noun it was asked to hold, or None.
        rank: Its place from 1; None where it is empty, says what an earlier one says, or the ranking could not be read.
        score: Its score in the ranking, None where there is none.
        chosen: Whether it was chosen.
    """

    text: str
    condition: str | None
    rank: int | None = None
    score: float | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Leap:
    """An answer, with those that it was chosen from.

    Attributes:
        text: The chosen answer; ``""`` where the model wrote nothing.
        proposals: All n, in the order in which they were drawn.
        read: Whether ranking and selection could be read. Where not, the first of what is left was taken.
    """

    text: str
    proposals: tuple[Proposal, ...]
    read: bool = True


class CLoTPipeline:
    """Answers a question or a picture as the paper's algorithm 1 does.

    n conditions, n answers; the model ranks them, and selects one of the first two.

    Args:
        backend: The model.
        nouns: What conditions are drawn from.
        n: Number of answers to choose from, 1 to 26.
        rho: Probability of an empty condition, from 0 to 1.
        scorer: How the model ranks and selects: ``"letter"``, ``"content"``, ``"pmi"`` or ``"generate"``.
        sampling: How answers are drawn; None takes the defaults of `Sampling`.
        templates: The wording; None is the built-in one.
        seed: Another number gives other answers.

    Raises:
        ValueError: ``n`` or ``rho`` is out of its range.

    Example:
        >>> from clot import EchoBackend, NounSet
        >>> pipeline = CLoTPipeline(EchoBackend(), NounSet.from_words(["umbrella", "teapot"], "en"), n=3)
        >>> leap = pipeline(question="Why is the moon round?")
        >>> len(leap.proposals), leap.text in [one.text for one in leap.proposals]
        (3, True)

    References:
        Zhong et al., Let's Think Outside the Box, 2024, arXiv:2312.02439, algorithm 1.
    """

    def __init__(
        self,
        backend: Backend,
        nouns: NounSet,
        *,
        n: int = 5,
        rho: float = 0.5,
        scorer: ScorerName = "letter",
        sampling: Sampling | None = None,
        templates: Templates | None = None,
        seed: int = 0,
    ) -> None:
        if not 1 <= n <= 26:
            raise ValueError(f"n is {n}; expected 1 to 26 answers, for letters name them")
        self._templates = templates or Templates()
        self._backend = backend
        self._scorer = scorer_of(scorer, backend, templates=self._templates)
        self._sampler = ConditionSampler(nouns, rho=rho, seed=seed)
        self._n = n
        self._sampling = sampling or Sampling()
        self._seed = seed

    def __call__(
        self,
        *,
        question: str | None = None,
        image: bytes | str | os.PathLike[str] | None = None,
        lang: str = "en",
    ) -> Leap:
        """Answer one prompt.

        Args:
            question: Its text, or None.
            image: Its picture, encoded, or a file; or None.
            lang: ``"en"``, ``"zh"`` or ``"ja"``.

        Returns:
            The leap.

        Raises:
            ValueError: There is neither question nor image, the picture does not load, or the language is unknown.
            FileNotFoundError: There is no such file.
        """
        record, pictures = _prompt(question, image, lang)
        return self.answer([record], pictures=pictures)[0]

    def rank(
        self,
        answers: Sequence[str],
        *,
        question: str | None = None,
        image: bytes | str | os.PathLike[str] | None = None,
        lang: str = "en",
    ) -> list[float | None]:
        """Let the model rank answers to one prompt, whoever gave them.

        Args:
            answers: 2 to 26 answers, no two alike.
            question: As in the call.
            image: As in the call.
            lang: As in the call.

        Returns:
            The score of each answer, higher is better; None for all where the ranking could not be read.

        Raises:
            ValueError: As in the call, or the answers cannot be ranked.
        """
        record, pictures = _prompt(question, image, lang)
        scored = self._scorer.rank([_question(record, answers, "rank", pictures)])[0]
        return [None] * len(answers) if scored.scores is None else list(scored.scores)

    def answer(self, records: Sequence[Record], *, pictures: Mapping[str, bytes] | None = None) -> list[Leap]:
        """Answer the prompts of records, together.

        Args:
            records: Records; what they answer is not looked at.
            pictures: Encoded pictures by identifier.

        Returns:
            A leap for each record.

        Raises:
            ValueError: A picture is missing or does not load.
        """
        conditions = [
            [self._sampler.draw(one.lang, key(one), at, avoid=[one.question or ""]) for at in range(self._n)]
            for one in records
        ]
        requests = [
            request
            for record, drawn in zip(records, conditions, strict=True)
            for request in self._requests(record, drawn, pictures)
        ]
        texts = iter([tidy(one.texts[0]) for one in self._backend.generate(requests)])
        given = [[Proposal(next(texts), condition) for condition in drawn] for drawn in conditions]
        ranked = self._rank(records, given, pictures)
        return self._select(records, ranked, pictures)

    def _requests(
        self, record: Record, drawn: Sequence[str | None], pictures: Mapping[str, bytes] | None
    ) -> list[Request]:
        try:
            picture = checked_picture(record, pictures)
        except ValueError as error:
            raise ValueError(f"record {record.id}: {error}") from None
        how = self._sampling
        return [
            Request(
                f"record {record.id}, candidate {at}",
                ask(self._templates, record, picture=picture, condition=condition),
                max_new_tokens=how.max_new_tokens,
                temperature=how.temperature,
                top_p=how.top_p,
                seed=draw(self._seed, key(record), at),
            )
            for at, condition in enumerate(drawn)
        ]

    def _rank(
        self, records: Sequence[Record], given: Sequence[Sequence[Proposal]], pictures: Mapping[str, bytes] | None
    ) -> list[list[Proposal]]:
        """Give ranks to the distinct answers."""
        found = [list(one) for one in given]
        asked = [(at, places) for at, one in enumerate(found) if len(places := _distinct(one)) > 1]
        questions = [
            _question(records[at], [found[at][place].text for place in places], "rank", pictures)
            for at, places in asked
        ]
        for (at, places), scored in zip(asked, self._scorer.rank(questions), strict=True):
            order = scored.order()
            if order is None or scored.scores is None:
                continue
            for rank, which in enumerate(order, 1):
                place = places[which]
                found[at][place] = replace(found[at][place], rank=rank, score=scored.scores[which])
        for one in found:
            if len(places := _distinct(one)) == 1:
                one[places[0]] = replace(one[places[0]], rank=1)
        return found

    def _select(
        self, records: Sequence[Record], ranked: Sequence[Sequence[Proposal]], pictures: Mapping[str, bytes] | None
    ) -> list[Leap]:
        """Choose one of the first two."""
        firsts = [_first_two(one) for one in ranked]
        asked = [at for at, one in enumerate(firsts) if len(one) == 2]
        questions = [
            _question(records[at], [ranked[at][place].text for place in firsts[at]], "select", pictures) for at in asked
        ]
        chosen = {at: one[0] for at, one in enumerate(firsts) if one}
        unread = {at for at, one in enumerate(ranked) if firsts[at] and one[firsts[at][0]].rank is None}
        for at, scored in zip(asked, self._scorer.select(questions), strict=True):
            if scored.choice is None:
                unread.add(at)
            else:
                chosen[at] = firsts[at][scored.choice[0]]
        return [
            Leap(
                one[chosen[at]].text if at in chosen else "",
                tuple(replace(each, chosen=place == chosen.get(at)) for place, each in enumerate(one)),
                at not in unread,
            )
            for at, one in enumerate(ranked)
        ]


def _prompt(
    question: str | None, image: bytes | str | os.PathLike[str] | None, lang: str
) -> tuple[Record, dict[str, bytes] | None]:
    """One prompt as a record, with its picture."""
    question = (question or "").strip() or None
    if question is None and image is None:
        raise ValueError("there is nothing to answer; give a question, an image, or both")
    if image is None:
        return Record("prompt", "T2T", question, None, "", None, language(lang)), None
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    name = blake2b(data, digest_size=8).hexdigest()
    return Record("prompt", "IT2T" if question else "I2T", question, name, "", None, language(lang)), {name: data}


def _distinct(proposals: Sequence[Proposal]) -> list[int]:
    """Places of the answers that are not empty and say what no earlier one says."""
    seen: set[str] = {""}
    places = []
    for at, one in enumerate(proposals):
        if (said := fold(one.text)) not in seen:
            seen.add(said)
            places.append(at)
    return places


def _first_two(proposals: Sequence[Proposal]) -> list[int]:
    """Places of the first two by rank, or of the first two distinct ones where nothing is ranked."""
    places = _distinct(proposals)
    return sorted(places, key=lambda at: proposals[at].rank or 0)[:2]


def _question(record: Record, options: Sequence[str], kind: str, pictures: Mapping[str, bytes] | None) -> Question:
    head = Prompt(record.question or "", picture_of(record, pictures))
    game = game_of(record.type, record.question)
    return Question(f"record {record.id}, {kind}", head, tuple(options), record.lang, game)


def key(record: Record) -> str:
    """What the draws for a prompt depend on: its question and picture, not what answers it."""
    return record_id(lang=record.lang, type=record.type, question=record.question, image=record.image, text="")
