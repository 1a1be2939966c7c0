"""From images and the prompts that made them to training data in the layout of SURD.

Prompts are cleaned, images captioned by a plug-in and checked by a safety hook, and both are written as an imagefolder:
images with their extensions, and ``metadata.jsonl`` with ``file_name``, ``text`` (narrative) and ``prompt`` (complex).
The folder appears under its name when it is whole; until then it is ``NAME.partial``, and a killed run goes on there.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sail_core.extras import needs
from sail_core.runs import write_atomic

from ._a1111 import clean_prompt
from ._plugins import load_plugin
from ._prepare_source import SourceRow, read_source
from ._surd import METADATA

Captioner = Callable[[Sequence[Any]], Sequence[str]]
Safety = Callable[[Any, SourceRow], bool]

_ROWS, _CONFIG, _SUMMARY = "rows.jsonl", "prepare.json", "summary.json"
_EXTENSIONS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp"}


@dataclass(frozen=True, kw_only=True)
class PrepareDataConfig:
    """Make training data of images and the prompts that made them."""

    source: Path
    """Folder with metadata.jsonl or metadata.json (file_name, prompt, perhaps text), or images of the web interface."""
    out: Path = Path("data/prepared")
    """Folder to write; it must not exist."""
    captioner: str | None = None
    """MODULE:NAME of a function from a list of PIL images to as many captions, or model:FOLDER_OR_HUB_ID of an
    image-to-text model; None takes the texts that the source has."""
    safety: str | None = None
    """MODULE:NAME of a function of a PIL image and its row that returns whether to keep it; None keeps all."""
    keep_syntax: bool = False
    """Leave weights and networks in the prompts."""
    min_side: int = 64
    """Smallest side of an image in pixels."""
    batch_size: int = 8
    """Images at once through the captioner."""

    def __post_init__(self) -> None:
        for name in ("min_side", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")


@dataclass(frozen=True)
class Prepared:
    """What a preparation came to.

    Attributes:
        kept: Rows written.
        dropped: Rows left out, by reason.
    """

    kept: int
    dropped: dict[str, int]


def prepare_data(
    config: PrepareDataConfig, *, captioner: Captioner | None = None, safety: Safety | None = None
) -> Prepared:
    """Prepare a folder, or go on with one that was killed.

    Args:
        config: Where from, where to, and how.
        captioner: Instead of the config's name of one.
        safety: Instead of the config's name of one.

    Returns:
        Counts.

    Raises:
        FileNotFoundError: There is no source.
        ValueError: The output exists, was begun with other options, no row is left, or a plug-in fits not.
        MissingExtra: Pillow, or for a model transformers, is not installed.

    Example:
        >>> prepare_data(PrepareDataConfig(source=Path("no/such/folder"), out=Path("out")))
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no folder no/such/folder; give one with images
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    if config.out.exists():
        raise ValueError(f"{config.out} exists; give another folder")
    captioner = captioner or _captioner(config.captioner)
    safety = safety or (load_plugin(config.safety) if config.safety else None)
    rows = list(read_source(config.source))
    partial = config.out.with_name(f"{config.out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    _claim(partial / _CONFIG, config)
    done = _read_rows(partial / _ROWS)
    todo = rows[len(done) :]
    seen = {row["prompt"] for row in done if "prompt" in row}
    with tqdm(total=len(rows), initial=len(done), delay=2, disable=None, unit="image", desc="prepare-data") as bar:
        for start in range(0, len(todo), config.batch_size):
            batch = todo[start : start + config.batch_size]
            made = list(_prepare(batch, len(done), partial, config, captioner, safety, seen))
            with (partial / _ROWS).open("ab") as file:
                file.write("".join(json.dumps(row) + "\n" for row in made).encode())
            done += made
            bar.update(len(batch))
    return _finish(partial, config.out, done)


def _prepare(
    rows: Sequence[SourceRow],
    first: int,
    folder: Path,
    config: PrepareDataConfig,
    captioner: Captioner | None,
    safety: Safety | None,
    seen: set[str],
) -> Iterator[dict[str, str]]:
    """Give each row's metadata, or why it was dropped; images are written before their rows are."""
    kept: list[tuple[int, Any, str]] = []
    out: list[dict[str, str]] = [{} for _ in rows]
    for place, row in enumerate(rows):
        prompt = " ".join(row.prompt.split()) if config.keep_syntax else clean_prompt(row.prompt)
        if not prompt:
            out[place] = {"dropped": "no prompt"}
        elif prompt in seen:
            out[place] = {"dropped": "prompt seen before"}
        elif captioner is None and row.caption is None:
            out[place] = {"dropped": "no caption"}
        elif not row.path.is_file():
            out[place] = {"dropped": "no image"}
        elif (image := _open(row.path)) is None:
            out[place] = {"dropped": "not decoded"}
        elif min(image.size) < config.min_side:
            out[place] = {"dropped": "too small"}
        elif safety is not None and not safety(image, row):
            out[place] = {"dropped": "unsafe"}
        else:
            seen.add(prompt)
            kept.append((place, image, prompt))
    if captioner is None:
        captions: Sequence[str] = [rows[place].caption or "" for place, _, _ in kept]
    else:
        captions = list(captioner([image.convert("RGB") for _, image, _ in kept])) if kept else []
    if len(captions) != len(kept) or not all(isinstance(one, str) for one in captions):
        raise ValueError(
            f"the captioner gave {len(captions)} captions for {len(kept)} images; it must give a text each"
        )
    for (place, image, prompt), caption in zip(kept, captions, strict=True):
        if not caption.strip():
            out[place] = {"dropped": "empty caption"}
            continue
        name = f"{first + place:08d}{_EXTENSIONS[image.format]}"
        write_atomic(folder / name, rows[place].path.read_bytes())
        out[place] = {"file_name": name, "text": " ".join(caption.split()), "prompt": prompt}
    yield from out


def _open(path: Path) -> Any:
    """Decode an image wholly; None when it cannot be, or is of no known format."""
    with needs("sur-adapter", "train"):
        from PIL import Image
    try:
        image = Image.open(io.BytesIO(path.read_bytes()))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return image if image.format in _EXTENSIONS else None


def _captioner(name: str | None) -> Captioner | None:
    if name is None:
        return None
    if name.startswith("model:"):
        with needs("sur-adapter", "train"):
            from .integrations.captioning import ImageCaptioner
        return ImageCaptioner(name.removeprefix("model:"))
    return load_plugin(name)


def _claim(path: Path, config: PrepareDataConfig) -> None:
    """Write down the options, or refuse to go on with others."""
    mine = {name: str(value) for name, value in asdict(config).items() if name not in ("out", "batch_size")}
    if not path.exists():
        write_atomic(path, json.dumps(mine, indent=1) + "\n")
        return
    there = json.loads(path.read_bytes())
    for name, value in mine.items():
        if there.get(name) != value:
            raise ValueError(
                f"{path.parent} was begun with {name} {there.get(name)!r}, this run has {value!r}; delete it or give "
                "another folder"
            )


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows that are done, and cut off a line that a kill left unfinished."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomic(path, whole)
    return [json.loads(line) for line in whole.splitlines()]


def _finish(partial: Path, out: Path, rows: Sequence[dict[str, str]]) -> Prepared:
    dropped = Counter(row["dropped"] for row in rows if "dropped" in row)
    kept = [row for row in rows if "dropped" not in row]
    if not kept:
        raise ValueError(f"of {len(rows)} rows none is left: {dict(dropped)}")
    summary = Prepared(len(kept), dict(sorted(dropped.items())))
    write_atomic(partial / METADATA, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    write_atomic(partial / _SUMMARY, json.dumps(asdict(summary), indent=1) + "\n")
    named = {row["file_name"] for row in kept} | {METADATA, _SUMMARY}
    for path in partial.iterdir():
        if path.name not in named:
            path.unlink()
    partial.rename(out)
    return summary
