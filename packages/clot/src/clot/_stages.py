"""The five stages that take a block of candidates from a plan to a verdict."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oogiri_go import Record, fold

from ._backend import Backend, Prompt, Request
from ._candidate import Block, Candidate, Move
from ._conditions import ConditionSampler, uses
from ._diversity import Repeats
from ._draw import draw, shuffled
from ._gates import Gates
from ._inputs import Input
from ._picture_of import checked_picture, picture_of
from ._question import Question, Scored
from ._scorers import Scorer
from ._templates import Templates, game_of
from ._tolerant import tolerant


@dataclass(frozen=True, slots=True)
class Sampling:
    """How candidates are drawn from a model.

    Attributes:
        max_new_tokens: An answer is cut after so many tokens.
        temperature: Above 0.
        top_p: Only the most probable tokens that make up this mass are drawn from.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0


class Stages:
    """The stages of one round, with everything that they use.

    Args:
        number: The round, from 1.
        backend: The model.
        scorer: Ranks and selects.
        sampler: Draws conditions.
        inputs: The prompts by the record's identifier.
        templates: The wording.
        pictures: Encoded pictures by identifier, or None.
        gates: What an answer must pass.
        sampling: How answers are drawn.
        seed: Another number draws others.
    """

    def __init__(
        self,
        number: int,
        *,
        backend: Backend,
        scorer: Scorer,
        sampler: ConditionSampler,
        inputs: Mapping[str, Input],
        templates: Templates,
        pictures: Mapping[str, bytes] | None,
        gates: Gates,
        sampling: Sampling,
        seed: int,
    ) -> None:
        self._number = number
        self._backend = backend
        self._scorer = scorer
        self._sampler = sampler
        self._inputs = inputs
        self._templates = templates
        self._pictures = pictures
        self._gates = gates
        self._sampling = sampling
        self._seed = seed
        self._repeats = Repeats()

    def next(self, block: Block) -> list[Move]:
        """Do what comes next for the block; every candidate that is not final gets a move."""
        stages = {
            "": self._plan,
            "planned": self._generate,
            "generated": self._rank,
            "ranked": self._select,
            "selected": self._decide,
        }
        return stages[block.pending()[0].state](block)

    def finish(self, block: Block) -> None:
        """Remember what a block kept, whether it was done now or replayed."""
        for one in block.candidates:
            if one.state == "kept":
                self._repeats.add(one.text or "")

    def _plan(self, block: Block) -> list[Move]:
        moves: list[Move] = []
        for name, group in block.by_record().items():
            given = self._inputs[name]
            known = [given.record.question or "", *given.answers]
            for one in group:
                condition = self._sampler.draw(given.record.lang, self._number, name, one.index, avoid=known)
                moves.append(("planned", {"condition": condition}))
        return moves

    def _generate(self, block: Block) -> list[Move]:
        problems: dict[str, str] = {}
        names: list[str] = []
        requests: list[Request] = []
        for name, group in block.by_record().items():
            record = self._inputs[name].record
            try:
                picture = checked_picture(record, self._pictures)
            except ValueError as error:
                problems[name] = str(error)
                continue
            names += [name] * len(group)
            requests += [self._request(record, picture, one) for one in group]
        answers, refused = tolerant(self._backend.generate, names, requests)
        problems |= refused
        given = iter(answers)
        return [
            ("dropped", {"reason": problems[one.record]})
            if one.record in problems
            else ("generated", {"text": tidy(next(given)[1].texts[0])})
            for one in block.pending()
        ]

    def _request(self, record: Record, picture: bytes | None, one: Candidate) -> Request:
        return Request(
            id=f"round {self._number}, record {one.record}, candidate {one.index}",
            prompt=ask(self._templates, record, picture=picture, condition=one.condition),
            max_new_tokens=self._sampling.max_new_tokens,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            seed=draw(self._seed, self._number, one.record, one.index),
        )

    def _rank(self, block: Block) -> list[Move]:
        reasons: dict[int, str] = {}
        placed: dict[int, tuple[int, float | None]] = {}
        passed: dict[str, list[Candidate]] = {}
        for name, group in block.by_record().items():
            fit = self._pass(self._inputs[name], group, reasons)
            if len(fit) > 1:
                passed[name] = fit
            elif fit:
                placed[id(fit[0])] = (1, None)
        questions = [self._question(name, "rank", [one.text or "" for one in fit]) for name, fit in passed.items()]
        answers, refused = tolerant(self._scorer.rank, list(passed), questions)
        for name, scored in answers:
            order = scored.order()
            if order is None or scored.scores is None:
                refused[name] = "its ranking could not be read"
                continue
            placed |= {id(passed[name][at]): (rank, scored.scores[at]) for rank, at in enumerate(order, 1)}
        reasons |= {id(one): reason for name, reason in refused.items() for one in passed[name]}
        moves: list[Move] = []
        for one in block.pending():
            if (reason := reasons.get(id(one))) is not None:
                moves.append(("dropped", {"reason": reason}))
            else:
                rank, score = placed[id(one)]
                moves.append(("ranked", {"rank": rank, "score": score}))
        return moves

    def _pass(self, given: Input, group: Sequence[Candidate], reasons: dict[int, str]) -> list[Candidate]:
        """Those whom no gate objects to; the reasons against the others."""
        passed: list[Candidate] = []
        for one in group:
            text = one.text or ""
            earlier = [other.text or "" for other in passed]
            reason = self._gates.judge(text, given.record, answers=given.answers, earlier=earlier)
            if reason is None and self._gates.condition and one.condition is not None:
                reason = None if uses(one.condition, text, given.record.lang) else "it lacks its condition"
            if reason is None:
                passed.append(one)
            else:
                reasons[id(one)] = reason
        return passed

    def _select(self, block: Block) -> list[Move]:
        names: list[str] = []
        questions: list[Question] = []
        for name, group in block.by_record().items():
            texts = [one.text or "" for one in group if one.rank in (1, 2)] + [self._inputs[name].record.text]
            names.append(name)
            questions.append(self._question(name, "select", shuffled(texts, self._seed, self._number, name)))
        answers, refused = tolerant(self._scorer.select, names, questions)
        results = dict(answers)
        asked = dict(zip(names, questions, strict=True))
        moves: list[Move] = []
        for one in block.pending():
            if one.rank not in (1, 2):
                moves.append(("dropped", {"reason": "it is not among the first two"}))
            elif one.record in refused:
                moves.append(("dropped", {"reason": refused[one.record]}))
            else:
                moves.append(self._compared(one, asked[one.record], results[one.record]))
        return moves

    def _compared(self, one: Candidate, asked: Question, scored: Scored) -> Move:
        if scored.choice is None or scored.scores is None:
            return "dropped", {"reason": "its selection could not be read"}
        scores = dict(zip(asked.options, scored.scores, strict=True))
        truth = scores[self._inputs[one.record].record.text]
        chosen = one.text in {asked.options[at] for at in scored.choice}
        return "selected", {"preference": scores[one.text or ""], "truth": truth, "chosen": chosen}

    def _decide(self, block: Block) -> list[Move]:
        verdicts: dict[int, Move] = {}
        kept = Counter[str]()  # in this block; the sketch knows the blocks before
        for group in block.by_record().values():
            chosen = next((one for one in group if one.chosen), None)
            for one in group:
                move = verdicts[id(one)] = self._verdict(one, chosen, group, kept)
                kept[fold(one.text or "")] += move[0] == "kept"
        return [verdicts[id(one)] for one in block.pending()]

    def _verdict(
        self, one: Candidate, chosen: Candidate | None, group: Sequence[Candidate], kept: Mapping[str, int]
    ) -> Move:
        if chosen is None:
            return "dropped", {"reason": "the ground truth was preferred"}
        if one is not chosen:
            return "dropped", {"reason": "the other candidate was preferred"}
        others = [one.truth or 0.0, *(other.preference or 0.0 for other in group if other is not one)]
        margin = (one.preference or 0.0) - max(others)
        if margin < self._gates.margin:
            return "dropped", {"reason": "its margin is too small"}
        text = one.text or ""
        if self._repeats.count(text) + kept[fold(text)] >= self._gates.repeats:
            return "dropped", {"reason": "it was kept for other prompts already"}
        return "kept", {"margin": margin}

    def _question(self, name: str, kind: str, options: Sequence[str]) -> Question:
        record = self._inputs[name].record
        head = Prompt(record.question or "", picture_of(record, self._pictures))
        game = game_of(record.type, record.question)
        return Question(f"round {self._number}, record {name}, {kind}", head, tuple(options), record.lang, game)


def ask(templates: Templates, record: Record, *, picture: bytes | None, condition: str | None) -> Prompt:
    """What a model is asked for an answer to a record's prompt."""
    game = game_of(record.type, record.question)
    kind = "generate" if condition is None else "condition"
    question = record.question or ""
    return Prompt(templates.render(kind, record.lang, game, question=question, condition=condition or ""), picture)


def tidy(text: str) -> str:
    """One line in NFC, without what UTF-8 cannot hold."""
    whole = text.encode("utf-8", "replace").decode()
    return unicodedata.normalize("NFC", " ".join(whole.split()))
