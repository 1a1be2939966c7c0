"""`clot generate` and `clot ui`: the paper's inference, for one prompt, for many, and on a page."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oogiri_go import Record, groups
from tqdm import tqdm  # type: ignore[import-untyped]

from ._command_model import LeapConfig
from ._load import load_records
from ._pipeline import CLoTPipeline, Leap
from ._templates import Templates


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(LeapConfig):
    """Answer a question, a picture, or the prompts of records, each by the best of n answers."""

    question: str | None = None
    image: Path | None = None
    """A file with a picture."""
    lang: str = "auto"
    sources: tuple[Path, ...] = ()
    """Instead of question and image: files of JSON lines, folders of them, or a data set that oogiri-go built."""
    images: Path | None = None
    """Folder or zip file of the sources' pictures, where they do not lie in them."""
    split: str = "test"
    out: Path = Path("answers.jsonl")
    """Receives a line for each prompt of the sources; started again, those that are there are not asked again."""
    limit: int | None = None
    batch: int = 8
    """Prompts that are answered together."""
    resume: bool = True
    dry_run: bool = False
    """Count the prompts, and ask nothing."""
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class UiConfig(LeapConfig):
    """Serve a page to play Oogiri with a model (extra ui)."""

    host: str = "127.0.0.1"
    """The default can be reached from this machine alone."""
    port: int | None = None
    """Without it, a free one."""


def run_generate(config: GenerateConfig) -> None:
    """Answer, and print the answers or write them."""
    alone = config.question is not None or config.image is not None
    if alone == bool(config.sources):
        raise ValueError("expected either --question or --image (or both), or --sources")
    if alone and config.dry_run:
        print("1 prompt")
        return
    if not alone:
        _many(config)
        return
    lang = "en" if config.lang == "auto" else config.lang
    leap = _pipeline(config)(question=config.question, image=config.image, lang=lang)
    if config.json:
        print(json.dumps(asdict(leap), ensure_ascii=False))
        return
    print(leap.text or "(no answer)")
    for one in sorted(leap.proposals, key=lambda one: (one.rank is None, one.rank)):
        score = "     -" if one.score is None else f"{one.score:6.3f}"
        print(
            f"{'*' if one.chosen else ' '} {one.rank or '-'} {score}  {one.text}  [{one.condition or 'no condition'}]"
        )


def _pipeline(config: LeapConfig, log: Path | None = None) -> CLoTPipeline:
    nouns = config.noun_set()  # before the model, which takes its time
    return CLoTPipeline(
        config.open(log),
        nouns,
        n=config.n,
        rho=config.rho,
        scorer=config.scorer,
        sampling=config.sampling(),
        templates=Templates(config.templates),
        seed=config.seed,
    )


def _many(config: GenerateConfig) -> None:
    loaded = load_records(config.sources, images=config.images, lang=config.lang, split=config.split)
    prompts = {name: rows[0] for name, rows in groups(loaded.records).items()}
    names = list(prompts)[: config.limit]
    done = _written(config.out, config.resume)
    left = [name for name in names if name not in done]
    if not config.dry_run and left:
        pipeline = _pipeline(config, config.out.with_suffix(".requests.jsonl"))
        config.out.parent.mkdir(parents=True, exist_ok=True)
        with config.out.open("ab") as file, tqdm(total=len(left), unit="prompt", disable=None) as bar:
            for start in range(0, len(left), config.batch):
                some = left[start : start + config.batch]
                leaps = pipeline.answer([prompts[name] for name in some], pictures=loaded.pictures)
                file.write(b"".join(map(_line, some, [prompts[name] for name in some], leaps)))
                file.flush()
                os.fsync(file.fileno())
                bar.update(len(some))
    result = {"path": str(config.out), "prompts": len(names), "asked": len(left), "issues": loaded.issues}
    print(json.dumps(result) if config.json else "  ".join(f"{name} {value}" for name, value in result.items()))


def _line(name: str, record: Record, leap: Leap) -> bytes:
    prompt: dict[str, Any] = {"prompt": name, "question": record.question, "image": record.image, "lang": record.lang}
    return json.dumps(prompt | asdict(leap), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _written(path: Path, resume: bool) -> set[str]:
    """The prompts that were answered before; a torn last line is cut off."""
    if not path.exists():
        return set()
    if not resume:
        raise ValueError(f"{path} is there already; go on with --resume, or name another file with --out")
    found: set[str] = set()
    whole = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                found.add(json.loads(line)["prompt"])
                if not line.endswith(b"\n"):
                    raise ValueError
            except (ValueError, KeyError, TypeError):
                if file.read(1):
                    raise ValueError(f"{path}, line {number} is not an answer of generate; name another file") from None
                break
            whole += len(line)
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    return found


def run_ui(config: UiConfig) -> None:
    """Serve the page until it is interrupted."""
    config.noun_set()  # what is missing is said before anything is loaded, here the nouns, there the extra
    from .integrations.gradio import play

    play(_pipeline(config), host=config.host, port=config.port)


__all__: Sequence[str] = ["GenerateConfig", "UiConfig", "run_generate", "run_ui"]
