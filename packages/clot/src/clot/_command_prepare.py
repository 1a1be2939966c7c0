"""`clot prepare`: instructions from records."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from oogiri_go.runs import write_atomic

from ._instruction_files import write_instructions
from ._instructions import InstructionMix, build_instructions
from ._load import Loaded, load_records
from ._nouns import NounSet, Tagger
from ._open import open_backend
from ._templates import Templates
from .distractors import Distractors, make_literals, make_rewrites, read_texts, write_texts


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Write instructions for tuning, and what could not be made.

    Attributes:
        sources: Files of JSON lines, folders of them, or a data set that oogiri-go built.
        out: Folder for instructions.jsonl and prepare.json.
        images: Folder or zip file of pictures, where they do not lie in the sources.
        lang: Language of all lines; auto finds it.
        split: Which split, where a source has splits.
        nouns: How nouns are found: by taggers (extra nouns) or by a heuristic that needs none.
        literals: File of plain answers (captions): {"image": ..., "text": ...} or {"question": ..., "text": ...}.
        rewrites: File of rewritten answers: {"id": ..., "text": ...}.
        model: Writes plain and rewritten answers where no file is named; a folder, a name, or a server's model.
        server: Address of an OpenAI-compatible server for the model, with /v1.
        adapter: Adapter of the model.
        device: Device of the model.
        answer: Share of instructions to answer.
        select: Share of choices.
        rank: Share of orders.
        mask: Share of gaps to fill.
        p_empty: Probability that an instruction to answer has no condition.
        per_record: Mean number of instructions of a record.
        tasks: Tasks of the choices.
        templates: Files with wording of one's own.
        seed: Another number gives other instructions.
        dry_run: Count, and write nothing.
        json: Print one line of JSON.
    """

    sources: tuple[Path, ...]
    out: Path = Path("instructions")
    images: Path | None = None
    lang: str = "auto"
    split: str = "train"
    nouns: Tagger = "tagger"
    literals: Path | None = None
    rewrites: Path | None = None
    model: str | None = None
    server: str | None = None
    adapter: Path | None = None
    device: str = "auto"
    answer: float = 0.6
    select: float = 0.25
    rank: float = 0.1
    mask: float = 0.05
    p_empty: float = 0.5
    per_record: float = 4.0
    tasks: tuple[Literal["2T1", "3T1", "4T1", "5T2"], ...] = ("2T1", "3T1", "4T1", "5T2")
    templates: tuple[Path, ...] = ()
    seed: int = 0
    dry_run: bool = False
    json: bool = False


def run_prepare(config: PrepareConfig) -> None:
    """Read records and write their instructions."""
    templates = Templates(config.templates)
    mix = InstructionMix(
        answer=config.answer,
        select=config.select,
        rank=config.rank,
        mask=config.mask,
        p_empty=config.p_empty,
        per_record=config.per_record,
        tasks=config.tasks,
    )
    loaded = load_records(config.sources, images=config.images, lang=config.lang, split=config.split)
    skipped: Counter[str] = Counter()
    made = build_instructions(
        loaded.records,
        mix,
        seed=config.seed,
        nouns=config.nouns,
        distractors=_distractors(config, loaded, templates, skipped),
        templates=templates,
        skipped=skipped,
    )
    path = config.out / "instructions.jsonl"
    counts: dict[str, int]
    digest: str | None = None
    if config.dry_run:
        counts = dict(Counter(one.kind for one in made))
    else:
        counts, digest = write_instructions(made, path)
    result: dict[str, Any] = {
        "path": str(path),
        "records": len(loaded.records),
        "issues": loaded.issues,
        "instructions": sum(counts.values()),
        "kinds": counts,
        "skipped": dict(sorted(skipped.items())),
        "sha256": digest,
        "templates": templates.digest,
    }
    if not config.dry_run:
        settings = {name: _plain(value) for name, value in asdict(config).items()}
        about = {"config": settings, **{name: value for name, value in result.items() if name != "path"}}
        write_atomic(config.out / "prepare.json", json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    say(result, config.json)


def _distractors(config: PrepareConfig, loaded: Loaded, templates: Templates, skipped: Counter[str]) -> Distractors:
    """Plain and rewritten answers from files; where none is named, from the model, written once and read again."""
    paths = {"literal": config.literals, "rewrite": config.rewrites}
    missing = [name for name, path in paths.items() if path is None]
    if config.model is not None and missing and not config.dry_run:
        backend = None
        for name in missing:
            path = config.out / f"{name}s.jsonl"
            if not path.is_file():
                backend = backend or open_backend(
                    config.model, server=config.server, adapter=config.adapter, device=config.device
                )
                rows = (
                    make_literals(
                        backend, loaded.records, pictures=loaded.pictures, templates=templates, skipped=skipped
                    )
                    if name == "literal"
                    else make_rewrites(backend, loaded.records, templates=templates, skipped=skipped)
                )
                write_texts(rows, path)
            paths[name] = path
    return Distractors(
        loaded.records,
        literals=None if paths["literal"] is None else read_texts(paths["literal"], of="literal"),
        rewrites=None if paths["rewrite"] is None else read_texts(paths["rewrite"], of="rewrite"),
        seed=config.seed,
    )


@dataclass(frozen=True, kw_only=True)
class NounsConfig:
    """Collect the nouns of answers, from which conditions are drawn.

    Attributes:
        sources: Files of JSON lines, folders of them, or a data set that oogiri-go built.
        out: The file to write.
        method: By taggers (extra nouns) or by a heuristic that needs none.
        least: Leave out nouns that fewer answers have.
        exclude: File of words to leave out, one a line.
        lang: Language of all lines; auto finds it.
        split: Which split, where a source has splits.
        dry_run: Count, and write nothing.
        json: Print one line of JSON.
    """

    sources: tuple[Path, ...]
    out: Path = Path("nouns.json")
    method: Tagger = "tagger"
    least: int = 1
    exclude: Path | None = None
    lang: str = "auto"
    split: str = "train"
    dry_run: bool = False
    json: bool = False


def run_nouns(config: NounsConfig) -> None:
    """Read records and write their nouns."""
    loaded = load_records(config.sources, lang=config.lang, split=config.split)
    refused = [] if config.exclude is None else config.exclude.read_text(encoding="utf-8").split("\n")
    nouns = NounSet.from_records(
        loaded.records, method=config.method, least=config.least, exclude=[word for word in refused if word.strip()]
    )
    if not config.dry_run:
        nouns.save(config.out)
    counts = {lang: len(words) for lang, words in nouns.counts.items()}
    say(
        {"path": str(config.out), "records": len(loaded.records), "issues": loaded.issues, "nouns": counts}, config.json
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def say(result: dict[str, Any], as_json: bool) -> None:
    """Print a result: one line of JSON, or a line for each value."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for name, value in result.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, one in value.items():
                print(f"  {key}  {one}")
        else:
            print(f"{name}  {value}")
