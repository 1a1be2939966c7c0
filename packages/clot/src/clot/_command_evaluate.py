"""`clot evaluate`, `clot dat` and `clot export`: questions put to a model, words, and questions for others to ask."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from oogiri_go.runs import write_atomic

from ._command_prepare import say
from ._evaluate import choice_questions, evaluate, export_lm_eval, ranking_questions
from ._load import load_records
from ._open import open_backend
from ._scorers import ScorerName, scorer_of
from ._templates import Templates
from .cloud import cloud_questions, guess
from .dat import Embeddings, complete, make_completions, read_dictionary, score
from .distractors import Distractors, read_texts

Task = Literal["2T1", "3T1", "4T1", "5T2", "rank"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Ask a model to choose and to rank, and set what it does beside chance.

    Attributes:
        model: A folder, a name that transformers loads, the model of a server, or echo.
        sources: Files of JSON lines, folders of them, or a data set that oogiri-go built; none where only clouds are
            asked about.
        out: Folder for evaluation.json.
        server: Address of an OpenAI-compatible server, with /v1.
        adapter: Adapter of the model.
        device: Device of the model.
        concurrency: Requests under way at once, for a server.
        price: Price of a million tokens read and of a million written, for the log of a server.
        prompt_logprobs: The server scores whole answers (vLLM), as the scorers content and pmi need.
        tasks: What is asked.
        scorer: How answers are read.
        permutations: Orders of the options that letters are averaged over.
        literals: File of plain answers (captions).
        rewrites: File of rewritten answers.
        images: Folder or zip file of pictures, where they do not lie in the sources.
        by: What an order is compared with: likes, or people's mean ratings.
        control: Ask choices once more with exchanged prompts.
        clouds: Folder <category>/*.png for cloud guessing.
        lang: Language of all lines; auto finds it.
        split: Which split, where a source has splits.
        limit: At most so many questions of a task.
        batch: Questions of one call of the model.
        templates: Files with wording of one's own.
        seed: Decides distractors and orders of options.
        resume: Go on with what lies in out already, where it is of the same settings and model.
        dry_run: Count the questions, and ask none.
        json: Print one line of JSON.
    """

    model: str
    sources: tuple[Path, ...] = ()
    out: Path = Path("evaluation")
    server: str | None = None
    adapter: Path | None = None
    device: str = "auto"
    concurrency: int = 8
    price: tuple[float, float] = (0.0, 0.0)
    prompt_logprobs: bool = False
    tasks: tuple[Task, ...] = ("2T1", "3T1", "4T1", "5T2", "rank")
    scorer: ScorerName = "letter"
    permutations: Literal["cyclic", "none"] = "cyclic"
    literals: Path | None = None
    rewrites: Path | None = None
    images: Path | None = None
    by: Literal["star", "rating"] = "star"
    control: bool = True
    clouds: Path | None = None
    lang: str = "auto"
    split: str = "test"
    limit: int | None = None
    batch: int = 16
    templates: tuple[Path, ...] = ()
    seed: int = 0
    resume: bool = True
    dry_run: bool = False
    json: bool = False


def run_evaluate(config: EvaluateConfig) -> None:
    """Evaluate a model."""
    if not config.sources and config.clouds is None:
        raise ValueError("there is nothing to ask about; name sources, or a folder of clouds")
    templates = Templates(config.templates)
    if config.dry_run:
        _count(config)
        return
    path = config.out / "evaluation.json"
    backend = open_backend(
        config.model,
        server=config.server,
        adapter=config.adapter,
        device=config.device,
        concurrency=config.concurrency,
        log=config.out / "requests.jsonl" if config.server else None,
        price=config.price,
        prompt_logprobs=config.prompt_logprobs,
    )
    settings = json.loads(json.dumps(asdict(config), default=str))
    for name in ("out", "resume", "json", "dry_run", "batch", "concurrency", "price", "device"):
        del settings[name]
    key = {"settings": settings, "model": backend.digest, "templates": templates.digest}
    if config.resume and (known := _known(path, key)) is not None:
        print("nothing to do: these settings and this model were evaluated before")
        _tell(known, "", config.json)
        return
    if not config.resume:
        (config.out / "answers.jsonl").unlink(missing_ok=True)
    data: dict[str, Any] = dict(key)
    table = ""
    if config.sources:
        loaded = load_records(config.sources, images=config.images, lang=config.lang, split=config.split)
        found = evaluate(
            backend,
            loaded.records,
            tasks=config.tasks,
            scorer=config.scorer,
            permutations=config.permutations,
            distractors=_distractors(config, loaded.records),
            by=config.by,
            control=config.control,
            pictures=loaded.pictures,
            templates=templates,
            limit=config.limit,
            batch=config.batch,
            seed=config.seed,
            store=config.out / "answers.jsonl",
        )
        data |= found.to_dict()
        table = found.table()
    if config.clouds is not None:
        judge = scorer_of(config.scorer, backend, permutations=config.permutations, templates=templates)
        clouds = guess(judge, cloud_questions(config.clouds, seed=config.seed), seed=config.seed)
        data["cloud"] = asdict(clouds)
        table += f"\ncloud   {clouds.questions:>6}  accuracy  {clouds.accuracy:.3f}  chance {clouds.chance:.3f}"
    write_atomic(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
    _tell(data, table.strip(), config.json)


def _known(path: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(data, dict) and all(data.get(name) == value for name, value in key.items())
    return data if same else None


def _tell(data: dict[str, Any], table: str, as_json: bool) -> None:
    short = {name: value for name, value in data.items() if name not in ("rows", "settings", "cells")}
    if as_json:
        print(json.dumps(short, ensure_ascii=False))
        return
    if table:
        print(table)
    else:
        say({name: short[name] for name in ("tasks", "cloud") if name in short}, False)
    for task, reasons in short.get("skipped", {}).items():
        for reason, count in reasons.items():
            print(f"{task}: {count} prompts without question: {reason}")
    for name, problem in list(short.get("failed", {}).items())[:10]:
        print(f"left out, {name}: {problem}")


def _distractors(config: "EvaluateConfig | ExportConfig", records: Any) -> Distractors:
    return Distractors(
        records,
        literals=None if config.literals is None else read_texts(config.literals, of="literal"),
        rewrites=None if config.rewrites is None else read_texts(config.rewrites, of="rewrite"),
        seed=config.seed,
    )


def _count(config: EvaluateConfig) -> None:
    """Say how many questions there would be."""
    counts: dict[str, Any] = {}
    if config.sources:
        loaded = load_records(config.sources, images=config.images, lang=config.lang, split=config.split)
        wrong = _distractors(config, loaded.records)
        for task in config.tasks:
            why: Counter[str] = Counter()
            if task == "rank":
                made = ranking_questions(
                    loaded.records, by=config.by, seed=config.seed, pictures=loaded.pictures, skipped=why
                )
            else:
                made = choice_questions(
                    loaded.records, task, wrong, seed=config.seed, pictures=loaded.pictures, skipped=why
                )
            counts[task] = {"questions": min(sum(1 for _ in made), config.limit or 1 << 62), **why}
    if config.clouds is not None:
        counts["cloud"] = {"questions": len(cloud_questions(config.clouds, seed=config.seed))}
    say(counts, config.json)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write questions as a multiple-choice task of lm-evaluation-harness.

    Attributes:
        sources: Files of JSON lines, folders of them, or a data set that oogiri-go built.
        out: Folder for NAME.yaml and NAME.jsonl.
        to: The form.
        name: Name of the task.
        task: Which questions.
        literals: File of plain answers.
        rewrites: File of rewritten answers.
        lang: Language of all lines; auto finds it.
        split: Which split, where a source has splits.
        templates: Files with wording of one's own.
        seed: Decides distractors and orders of options.
        json: Print one line of JSON.
    """

    sources: tuple[Path, ...]
    out: Path = Path("lm-eval")
    to: Literal["lm-eval"] = "lm-eval"
    name: str = "oogiri_3t1"
    task: Literal["2T1", "3T1", "4T1"] = "3T1"
    literals: Path | None = None
    rewrites: Path | None = None
    lang: str = "auto"
    split: str = "test"
    templates: tuple[Path, ...] = ()
    seed: int = 0
    json: bool = False


def run_export(config: ExportConfig) -> None:
    """Write the questions."""
    loaded = load_records(config.sources, lang=config.lang, split=config.split)
    why: Counter[str] = Counter()
    made = choice_questions(
        loaded.records,
        config.task,
        _distractors(config, loaded.records),
        seed=config.seed,
        pictures=loaded.pictures,
        skipped=why,
    )
    counts = export_lm_eval(made, config.out, name=config.name, templates=Templates(config.templates))
    say({"path": str(config.out), **counts, "skipped": dict(why)}, config.json)


@dataclass(frozen=True, kw_only=True)
class DatConfig:
    """Score words by the Divergent Association Task, or let a model choose tenth words.

    Attributes:
        embeddings: File of word vectors in text form, such as GloVe 840B 300d.
        words: Words to score, about ten nouns.
        dictionary: File of the words that count, one a line; none takes all that have a vector.
        minimum: How many valid words are taken.
        cache: Folder for the vectors that were read.
        model: A model that chooses tenth words instead; as in evaluate.
        items: How many lists of nine words it completes.
        server: Address of an OpenAI-compatible server, with /v1.
        adapter: Adapter of the model.
        device: Device of the model.
        scorer: How its answers are read.
        seed: Draws the lists.
        out: Folder for dat.json with every distance, which report draws; for a model.
        json: Print one line of JSON.
    """

    embeddings: Path
    words: tuple[str, ...] = ()
    dictionary: Path | None = None
    minimum: int = 7
    cache: Path | None = None
    model: str | None = None
    items: int = 100
    server: str | None = None
    adapter: Path | None = None
    device: str = "auto"
    scorer: Literal["letter", "generate"] = "letter"
    seed: int = 0
    out: Path | None = None
    json: bool = False


def run_dat(config: DatConfig) -> None:
    """Score words, or a model."""
    if bool(config.words) == (config.model is not None):
        raise ValueError("expected either --words to score, or --model to choose tenth words")
    known = None if config.dictionary is None else read_dictionary(config.dictionary)
    vectors = Embeddings.from_glove(config.embeddings, words=known, cache=config.cache)
    if config.model is None:
        found = score(config.words, vectors, minimum=config.minimum, dictionary=known)
        say({"score": found, "minimum": config.minimum, "words": len(config.words)}, config.json)
        return
    backend = open_backend(config.model, server=config.server, adapter=config.adapter, device=config.device)
    items = make_completions(sorted(vectors), config.items, seed=config.seed, embeddings=vectors)
    result = complete(scorer_of(config.scorer, backend), items, vectors, seed=config.seed)
    data = asdict(result) | {"model": backend.digest, "scorer": config.scorer, "seed": config.seed}
    if config.out is not None:
        write_atomic(config.out / "dat.json", json.dumps(data, indent=1) + "\n")
    say({name: value for name, value in data.items() if name not in ("chosen", "offered")}, config.json)
