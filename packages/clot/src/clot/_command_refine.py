"""`clot refine`: explorative self-refinement."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oogiri_go import Record
from oogiri_go.safety import BlockList, PersonalData, SafetyFilter

from ._backend import Backend
from ._command_model import LeapConfig
from ._command_prepare import say
from ._command_train import TrainingConfig, settings
from ._gates import Gates
from ._instructions import build_instructions
from ._load import Loaded, load_records
from ._nouns import NounSet
from ._refine import Restart, Retrain, self_refine
from ._templates import Templates
from .distractors import Distractors, read_texts


@dataclass(frozen=True, kw_only=True)
class RefineConfig(TrainingConfig, LeapConfig):
    """Let a model choose among its own answers and learn from those that beat the ground truth.

    Killed at any moment, the same command goes on. A model behind a server answers and chooses; it is not trained.
    """

    sources: tuple[Path, ...]
    """Files of JSON lines, folders of them, or a data set that oogiri-go built."""
    out: Path = Path("runs/refine")
    images: Path | None = None
    """Folder or zip file of pictures, where they do not lie in the sources."""
    lang: str = "auto"
    split: str = "train"
    held_out: Path | None = None
    """Records to measure discrimination on; without it a tenth of the prompts, chosen by hash."""
    rounds: int = 1
    restart: Restart = "previous"
    """What each training starts from: the base model, or the adapter of the round before."""
    train: bool = True
    """Train at the end of each round."""
    limit: int | None = None
    """At most so many prompts, chosen by hash."""
    refine_batch: int = 16
    """Prompts that go through the stages together; what a kill may cost."""
    min_discrimination: float | None = None
    """What the lower end of the interval of the held-out accuracy must be above; without it chance, 1/3."""
    max_chars: int = 200
    overlap: float = 0.7
    """Largest share of trigrams in common with a known answer, the question or another candidate."""
    repetition: float = 0.5
    """Largest share of repeated pairs of neighbours within an answer."""
    use_condition: bool = False
    """Drop answers that do not hold their condition."""
    block: Path | None = None
    """A file of words, one a line, that no answer may hold."""
    personal_data: bool = True
    """Drop answers with e-mail addresses, telephone numbers or handles."""
    margin: float = 0.0
    """Least lead of the chosen answer."""
    share: float = 0.5
    """Largest share of new records in the next training."""
    literals: Path | None = None
    """File of plain answers (captions), for the choices that are trained on."""
    rewrites: Path | None = None
    """File of rewritten answers, likewise."""
    noun_method: Literal["tagger", "heuristic", "set"] = "set"
    """Conditions of the instructions that are trained on: set takes the nouns of --nouns that an answer holds."""
    resume: bool = True
    force_new: bool = False
    """Set aside what OUT holds and start anew."""
    dry_run: bool = False
    """Count the prompts, and ask nothing."""
    json: bool = False


def run_refine(config: RefineConfig) -> None:
    """Refine, and say what was kept."""
    loaded = load_records(config.sources, images=config.images, lang=config.lang, split=config.split)
    held_out = None if config.held_out is None else load_records([config.held_out], lang=config.lang).records
    nouns, templates = config.noun_set(), Templates(config.templates)
    if config.dry_run:
        from oogiri_go import groups

        prompts = len(groups(loaded.records))
        say({"records": len(loaded.records), "prompts": prompts, "candidates": config.n * prompts}, config.json)
        return
    backend = config.open(log=config.out / "requests.jsonl")
    done = self_refine(
        backend,
        loaded.records,
        nouns,
        out=config.out,
        n=config.n,
        rho=config.rho,
        rounds=config.rounds,
        gates=_gates(config),
        scorer=config.scorer,
        sampling=config.sampling(),
        held_out=held_out,
        min_discrimination=config.min_discrimination,
        retrain=_retrain(config, loaded, nouns, templates, backend),
        restart=config.restart,
        pictures=loaded.pictures,
        templates=templates,
        limit=config.limit,
        batch=config.refine_batch,
        seed=config.seed,
        resume=config.resume,
        force=config.force_new,
    )
    for one in done.rounds:
        about = {"kept": str(one.kept), "discrimination": one.summary["discrimination"]["accuracy"]}
        say(
            {"round": one.number, **about, "steps": one.summary["steps"], "dropped": one.summary["dropped"]},
            config.json,
        )


def _gates(config: RefineConfig) -> Gates:
    filters: list[SafetyFilter] = [PersonalData()] if config.personal_data else []
    if config.block is not None:
        words = config.block.read_text(encoding="utf-8-sig").split("\n")
        filters.append(BlockList([word.strip() for word in words if word.strip()]))
    return Gates(
        max_chars=config.max_chars,
        overlap=config.overlap,
        repetition=config.repetition,
        condition=config.use_condition,
        filters=tuple(filters),
        margin=config.margin,
        share=config.share,
    )


def _retrain(
    config: RefineConfig, loaded: Loaded, nouns: NounSet, templates: Templates, first: Backend
) -> Retrain | None:
    """The training at the end of a round, or None where nothing is trained."""
    if not config.train or config.server is not None or config.model == "echo":
        return None
    trained: list[Path] = []
    current: list[Any] = [first]

    def retrain(round: int, records: Sequence[Record], *, restart: Restart, out: Path) -> Backend:
        from .integrations.training import train_ait

        options, lora = settings(config, seed=config.seed)
        instructions = list(
            build_instructions(
                records,
                seed=config.seed + round,
                nouns=_nouns_of(config, nouns),
                distractors=_distractors(config, records),
                pictures=loaded.pictures,
                templates=templates,
            )
        )
        current.pop().model.to("cpu")  # its place on the device is needed
        previous = trained[-1] if trained else config.adapter
        done = train_ait(
            config.model,
            instructions,
            out=out,
            options=options,
            lora=lora,
            adapter=previous if restart == "previous" else None,
            dtype=config.dtype,
            device=config.device,
        )
        trained.append(done.folder)
        from .integrations.hf import HFBackend

        backend = HFBackend.from_pretrained(config.model, adapter=done.folder, dtype=config.dtype, device=config.device)
        current.append(backend)
        return backend

    return retrain


def _nouns_of(config: RefineConfig, nouns: NounSet) -> Literal["tagger", "heuristic"] | Callable[[Record], list[str]]:
    if config.noun_method != "set":
        return config.noun_method
    from ._conditions import uses

    return lambda record: [one for one in nouns.words(record.lang) if uses(one, record.text, record.lang)]


def _distractors(config: RefineConfig, records: Sequence[Record]) -> Distractors:
    return Distractors(
        records,
        literals=None if config.literals is None else read_texts(config.literals, of="literal"),
        rewrites=None if config.rewrites is None else read_texts(config.rewrites, of="rewrite"),
        seed=config.seed,
    )
