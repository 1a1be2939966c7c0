"""Put a model's sense of humour to the test: choices of four kinds, and orders."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Literal, get_args

from oogiri_go import Record
from tqdm import tqdm  # type: ignore[import-untyped]

from ._answers import Answers, batch_name
from ._backend import Backend
from ._choices import TASKS, choice_questions, ranking_questions
from ._evaluation import ChoiceResult, Evaluation, RankResult
from ._letters import LetterScorer
from ._lm_eval import export_lm_eval
from ._question import Question, Scored
from ._scorers import Scorer, ScorerName, scorer_of, swap_heads
from ._templates import Templates
from ._tolerant import tolerant
from .distractors import Distractors

__all__ = ["Evaluation", "choice_questions", "evaluate", "export_lm_eval", "ranking_questions"]


def evaluate(
    backend: Backend,
    records: Sequence[Record],
    *,
    tasks: Sequence[str] = (*TASKS, "rank"),
    scorer: ScorerName = "letter",
    permutations: Literal["cyclic", "none"] = "cyclic",
    distractors: Distractors | None = None,
    by: Literal["star", "rating"] = "star",
    control: bool = True,
    pictures: Mapping[str, bytes] | None = None,
    templates: Templates | None = None,
    limit: int | None = None,
    batch: int = 16,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Ask a model to choose and to rank, and set what it does beside chance.

    Each prompt gives one question a task. A task whose distractors have no source has no questions; that is counted
    and nothing takes their place. What the model cannot take (a picture that does not load, a prompt that is too long)
    is left out and named.

    Args:
        backend: The model.
        records: Records of the test split.
        tasks: Some of ``"2T1"``, ``"3T1"``, ``"4T1"``, ``"5T2"`` and ``"rank"``.
        scorer: ``"letter"``, ``"content"``, ``"pmi"`` or ``"generate"``, see `scorer_of`.
        permutations: For ``"letter"``: ``"cyclic"`` or ``"none"``.
        distractors: Wrong options; None knows only answers to other prompts.
        by: What an order is compared with, see `ranking_questions`.
        control: Ask choices once more with exchanged prompts.
        pictures: Encoded pictures by identifier; None asks without pictures.
        templates: The wording; None takes the built-in one.
        limit: At most so many questions of a task; None asks all.
        batch: Questions of one call of the backend.
        seed: Decides distractors and orders of options.
        store: A file that keeps the answers batch by batch; started again with it, an evaluation goes on where it was
            killed, with the same result.

    Returns:
        What was found.

    Raises:
        ValueError: An argument has no such value, or no task has a question.

    Example:
        >>> from clot import EchoBackend
        >>> rows = [Record("", "T2T", f"Why {at // 9}?", None, f"Joke {at}.", at, "en") for at in range(90)]
        >>> laughs = EchoBackend(logprob=lambda prompt, option: 0.0)
        >>> found = evaluate(laughs, rows, tasks=["rank"])
        >>> print(found.tasks["rank"].questions, abs(round(found.tasks["rank"].normalised_ndcg, 6)))
        10 0.0
    """
    if wrong := [one for one in tasks if one not in (*TASKS, "rank")]:
        raise ValueError(f"there is no task {wrong[0]!r}; expected some of {', '.join(TASKS)} and rank")
    if scorer not in get_args(ScorerName):
        raise ValueError(f"there is no scorer {scorer!r}; expected one of {', '.join(get_args(ScorerName))}")
    if batch < 1 or (limit is not None and limit < 1):
        raise ValueError(f"batch is {batch} and limit {limit}; expected at least 1")
    templates = templates or Templates()
    distractors = distractors or Distractors(records, seed=seed)
    judge = scorer_of(scorer, backend, permutations=permutations, templates=templates)
    key = {"model": backend.digest, "templates": templates.digest, "scorer": scorer, "permutations": permutations}
    run = _Run(batch, Answers(store, key))
    found: dict[str, tuple[list[Question], list[Scored]]] = {}
    control_results: dict[str, ChoiceResult] = {}
    skipped: dict[str, dict[str, int]] = {}
    for task in dict.fromkeys(tasks):
        why: Counter[str] = Counter()
        if task == "rank":
            made = ranking_questions(records, by=by, seed=seed, pictures=pictures, skipped=why)
        else:
            made = choice_questions(records, task, distractors, seed=seed, pictures=pictures, skipped=why)  # type: ignore[arg-type]
        questions = list(made)[:limit]
        skipped[task] = dict(why)
        asked, scored = run.ask(questions, task, judge.rank if task == "rank" else judge.select)
        if not asked:
            continue
        found[task] = asked, scored
        if control and task != "rank":
            swapped, answers = run.ask(swap_heads(asked), f"{task}, swapped", judge.select)
            if swapped:
                control_results[task] = ChoiceResult.of(swapped, answers)
    if not found:
        reasons = {task: why for task, why in skipped.items() if why} or run.failed or "there are no records"
        raise ValueError(f"no task has a question the model could take: {reasons}")
    return Evaluation(
        tasks={task: _result(task, *one) for task, one in found.items()},
        cells=_cells(found),
        control=control_results,
        skipped=skipped,
        failed=run.failed,
        places=_places(judge, found, run),
        scorer=scorer,
        model=backend.digest,
        templates=templates.digest,
        seed=seed,
        rows=[_row(task, *pair) for task, one in found.items() for pair in zip(*one, strict=True)],
    )


class _Run:
    """Asks in batches; what an error names is left out."""

    def __init__(self, batch: int, kept: Answers) -> None:
        self._batch = batch
        self._kept = kept
        self.failed: dict[str, str] = {}

    def ask(
        self,
        questions: Sequence[Question],
        name: str,
        call: Callable[[Sequence[Question]], list[Scored]],
    ) -> tuple[list[Question], list[Scored]]:
        asked: list[Question] = []
        answers: list[Scored] = []
        with tqdm(total=len(questions), desc=name, disable=None, delay=2) as bar:
            for start in range(0, len(questions), self._batch):
                some = questions[start : start + self._batch]
                key = batch_name(name, some)
                if (found := self._kept.get(key)) is None:
                    found = tolerant(call, [one.id for one in some], some)
                    self._kept.put(key, found)
                given, problems = found
                self.failed |= problems
                by_id = {one.id: one for one in some}
                asked += [by_id[key] for key, _ in given]
                answers += [answer for _, answer in given]
                bar.update(len(some))
        return asked, answers


def _result(task: str, questions: Sequence[Question], scored: Sequence[Scored]) -> ChoiceResult | RankResult:
    return RankResult.of(questions, scored) if task == "rank" else ChoiceResult.of(questions, scored)


def _cells(found: Mapping[str, tuple[list[Question], list[Scored]]]) -> dict[str, ChoiceResult | RankResult]:
    cells: dict[str, tuple[str, list[Question], list[Scored]]] = {}
    for task, (questions, scored) in found.items():
        for asked, one in zip(questions, scored, strict=True):
            _, members, answers = cells.setdefault(f"{task}/{asked.game}/{asked.lang}", (task, [], []))
            members.append(asked)
            answers.append(one)
    return {name: _result(*cell) for name, cell in cells.items()}


def _places(
    judge: Scorer, found: Mapping[str, tuple[list[Question], list[Scored]]], run: _Run
) -> dict[str, dict[str, int]]:
    """How often each letter was chosen, in the given order alone and after averaging."""
    if not isinstance(judge, LetterScorer):
        return {}
    once = LetterScorer(judge.backend, permutations="none", templates=judge.templates)
    given: Counter[str] = Counter()
    averaged: Counter[str] = Counter()
    for task, (questions, scored) in found.items():
        if task == "rank":
            continue
        _, alone = run.ask(questions, f"{task}, given order", once.select)
        for counter, several in ((given, alone), (averaged, scored)):
            counter.update(ascii_uppercase[at] for one in several for at in one.choice or ())
    return {"given": dict(sorted(given.items())), "averaged": dict(sorted(averaged.items()))}


def _row(task: str, question: Question, scored: Scored) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": question.id,
        "task": task,
        "game": question.game,
        "lang": question.lang,
        "options": list(question.options),
        "choice": None if scored.choice is None else list(scored.choice),
        "scores": None if scored.scores is None else list(scored.scores),
    }
    if task == "rank":
        return row | {"stars": list(question.stars)}
    return row | {"answer": list(question.answer), "right": scored.choice == question.answer}
