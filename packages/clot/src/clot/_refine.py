"""Explorative self-refinement: the model answers under weakly associated conditions and learns from its best answers.

References:
    Zhong et al., Let's Think Outside the Box: Exploring Leap-of-Thought in Large Language Models with Creative Humor
    Generation, 2024, arXiv:2312.02439.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol

from oogiri_go import Record, read_jsonl, split, write_jsonl
from oogiri_go.runs import write_atomic
from tqdm import tqdm  # type: ignore[import-untyped]

from ._backend import Backend
from ._candidate import Block
from ._conditions import ConditionSampler
from ._discrimination import CHANCE, Discrimination, measured, require
from ._funnel import Funnel
from ._gates import Gates
from ._inputs import Input, digest_of, inputs_of, set_aside
from ._ledger import Ledger
from ._mixing import mix_records, record_of
from ._nouns import NounSet
from ._scorers import ScorerName, scorer_of
from ._stages import Sampling, Stages
from ._templates import Templates

Restart = Literal["base", "previous"]


class Retrain(Protocol):
    """Trains a model on records. Called again with the same arguments, it goes on or gives what it made."""

    def __call__(self, round: int, records: Sequence[Record], *, restart: Restart, out: Path) -> Backend:
        """Train.

        Args:
            round: The round that ends, from 1.
            records: What to learn from: the first stage's records and those that were kept.
            restart: Whether to train the base model anew or the previous round's on.
            out: A folder for whatever it writes.

        Returns:
            The trained model.
        """


@dataclass(frozen=True)
class Round:
    """What a round of refinement came to.

    Attributes:
        number: From 1.
        kept: The file of the records that were kept.
        summary: Steps of the funnel, reasons of the dropped, use of conditions, diversity, discrimination.
    """

    number: int
    kept: Path
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Refinement:
    """What self-refinement made.

    Attributes:
        out: The folder.
        rounds: The rounds.
        backend: The model after the last training, or the given one where nothing was trained.
    """

    out: Path
    rounds: tuple[Round, ...]
    backend: Backend


def self_refine(
    backend: Backend,
    data: Sequence[Record],
    nouns: NounSet,
    *,
    out: str | os.PathLike[str],
    n: int = 5,
    rho: float = 0.5,
    rounds: int = 1,
    gates: Gates | None = None,
    scorer: ScorerName = "letter",
    sampling: Sampling | None = None,
    held_out: Sequence[Record] | None = None,
    min_discrimination: float | None = None,
    retrain: Retrain | None = None,
    restart: Restart = "previous",
    pictures: Mapping[str, bytes] | None = None,
    templates: Templates | None = None,
    limit: int | None = None,
    batch: int = 16,
    seed: int = 0,
    resume: bool = True,
    force: bool = False,
) -> Refinement:
    """Let a model answer each prompt n times, choose its best answer, and train it on those that beat the ground truth.

    For each prompt n conditions are drawn, each empty with probability rho, else a noun drawn uniformly. The model
    answers under each; gates drop what is unfit; the model ranks the rest; it selects one of the first two and the
    ground truth, which is the best-liked known answer. Where it selects the ground truth nothing is kept.

    Every stage of a batch of prompts is committed to ``OUT/ledger.jsonl`` before the next one begins. Killed at any
    moment and called again, it does nothing twice but what was not committed, and ends with the same bytes.

    Args:
        backend: The model.
        data: Records; one input is made of each prompt.
        nouns: What conditions are drawn from.
        out: Receives ``config.json``, ``ledger.jsonl`` and, for each round, ``round-N/kept.jsonl``, ``summary.json``,
            ``discrimination.json`` and the folder ``model`` of the training.
        n: Candidates of each prompt, 1 to 25.
        rho: Probability of an empty condition, from 0 to 1.
        rounds: Number of rounds; the paper finds that a second one adds nothing significant.
        gates: What an answer must pass; None takes the defaults of `Gates`.
        scorer: How the model ranks and selects: ``"letter"``, ``"content"``, ``"pmi"`` or ``"generate"``.
        sampling: How answers are drawn; None takes the defaults of `Sampling`.
        held_out: Records of prompts that are not refined on, to measure discrimination; None takes a tenth of the
            prompts of data, chosen by hash.
        min_discrimination: The lower end of the 95 % interval of the held-out 3T1 accuracy must be above this share;
            None is chance, 1/3, and 0 lets every model pass.
        retrain: Trains the model at the end of each round; None trains nothing.
        restart: What `retrain` is told: to train the base model anew, or the previous round's on.
        pictures: Encoded pictures by the identifier of ``Record.image``.
        templates: The wording; None is the built-in one.
        limit: At most so many prompts, chosen by hash; None takes all.
        batch: Prompts that go through the stages together; what a kill may cost.
        seed: Another number draws other conditions and answers.
        resume: Go on where ``out`` holds this run already; otherwise that is an error.
        force: Set aside what ``out`` holds (as ``old-N``) and start anew.

    Returns:
        The rounds and the last model.

    Raises:
        ValueError: An argument is out of its range, ``out`` holds a run with another configuration, model or data, or
            there are no prompts.
        NotAboveChance: The model's held-out discrimination is not above ``min_discrimination``.

    References:
        Zhong et al., Let's Think Outside the Box, 2024, arXiv:2312.02439, section 4.2.
    """
    gates, sampling, templates = gates or Gates(), sampling or Sampling(), templates or Templates()
    _check(n, rho, rounds, batch, limit, retrain, sampling)
    if held_out is None:
        parts = split(data, seed=seed, ratios=(0.9, 0.1, 0.0))
        data, held_out = parts.train, parts.validation
    inputs = inputs_of(data, seed, limit)
    folder = Path(out)
    settings = {
        "n": n,
        "rho": rho,
        "scorer": scorer,
        "restart": restart,
        "batch": batch,
        "seed": seed,
        "min_discrimination": min_discrimination,
        "gates": gates.settings(),
        "sampling": asdict(sampling),
        "templates": templates.digest,
        "nouns": digest_of((lang, *nouns.words(lang)) for lang in nouns.counts),
        "model": backend.digest,
        "inputs": digest_of((name, *one.answers) for name, one in inputs.items()),
        "held_out": digest_of((one.id, one.text) for one in held_out),
    }
    config = blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()
    if force:
        set_aside(folder)
    finished: list[Round] = []
    with Ledger(folder / "ledger.jsonl", config, resume=resume) as ledger:
        write_atomic(folder / "config.json", json.dumps({"config": config, **settings}, indent=1) + "\n")
        for number in range(1, rounds + 1):
            target = folder / f"round-{number}"
            judge = scorer_of(scorer, backend, templates=templates)
            found = measured(
                judge,
                backend.digest,
                held_out,
                target / "discrimination.json",
                pictures=pictures,
                seed=seed,
                batch=batch,
            )
            require(found, CHANCE if min_discrimination is None else min_discrimination, number)
            ledger.mark({"round": number, "model": backend.digest, "prompts": len(inputs)})
            stages = Stages(
                number, backend=backend, scorer=judge, sampler=ConditionSampler(nouns, rho=rho, seed=seed),
                inputs=inputs, templates=templates, pictures=pictures, gates=gates, sampling=sampling, seed=seed,
            )  # fmt: skip
            funnel = Funnel()
            blocks = _blocks(ledger, stages, inputs, number=number, n=n, batch=batch, funnel=funnel)
            write_jsonl(
                (record_of(one, inputs[one.record].record, number) for block in blocks for one in block.candidates
                 if one.state == "kept"),
                target / "kept.jsonl",
            )  # fmt: skip
            ledger.mark({"round": number, "kept": funnel.steps["kept"]})
            finished.append(_summarise(number, target, funnel, found))
            if retrain is not None:
                new = [one for past in finished for one in read_jsonl(past.kept)]
                mixed = mix_records(data, new, share=gates.share, seed=seed)
                backend = retrain(number, mixed, restart=restart, out=target / "model")
    return Refinement(folder, tuple(finished), backend)


def _check(
    n: int, rho: float, rounds: int, batch: int, limit: int | None, retrain: Retrain | None, sampling: Sampling
) -> None:
    for name, value, low, high in (("n", n, 1, 25), ("rounds", rounds, 1, 100), ("batch", batch, 1, 100_000)):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected a number from {low} to {high}")
    if not 0 <= rho <= 1:
        raise ValueError(f"rho is {rho}; expected a probability from 0 to 1")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1, or None")
    if rounds > 1 and retrain is None:
        raise ValueError(f"{rounds} rounds of one and the same model are one round; give retrain, or rounds=1")
    if sampling.temperature <= 0 and n > 1:
        raise ValueError(f"temperature is {sampling.temperature}: candidates without a condition would be the same")


def _blocks(
    ledger: Ledger, stages: Stages, inputs: Mapping[str, Input], *, number: int, n: int, batch: int, funnel: Funnel
) -> Iterator[Block]:
    """Take one block after the other through all its stages."""
    languages = {name: one.record.lang for name, one in inputs.items()}
    with tqdm(total=len(inputs), desc=f"round {number}", unit="prompt", disable=None) as bar:
        names = list(inputs)
        for some in (names[at : at + batch] for at in range(0, len(names), batch)):
            block = Block.of(number, some, n)
            ledger.replay(block)
            while block.pending():
                ledger.commit(block, stages.next(block))
            stages.finish(block)
            funnel.add(block, languages)
            yield block
            bar.update(len(some))


def _summarise(number: int, target: Path, funnel: Funnel, found: Discrimination) -> Round:
    low, high = found.interval
    about = {"accuracy": found.accuracy, "questions": found.questions, "interval": [low, high], "chance": CHANCE}
    kept = target / "kept.jsonl"
    summary = {"round": number, **funnel.summary(read_jsonl(kept)), "discrimination": about}
    write_atomic(target / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return Round(number, kept, summary)
