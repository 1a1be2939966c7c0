"""The command `evaluate`: the same prompts and seeds through a pipeline without and with its adapter, scored."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from sail_core.extras import needs
from sail_core.report import Report, Verdict
from sail_core.runs import Run, pick_device, pick_dtype, write_atomic
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from . import __version__, plots
from ._bundle import load_folder
from ._compare import Comparison, compare
from ._pairs_page import write_pairs_page
from ._suite import Item, load_suite
from .scorers import Scorer

if TYPE_CHECKING:
    from PIL.Image import Image

_SHOWN = 8  # prompts in the figures


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Compare a pipeline with and without an adapter on a suite of narrative prompts."""

    model: str
    """The pipeline: a local folder, or a Hub id."""
    adapter: Path
    """Folder of the adapter or bundle."""
    suite: str = "color"
    """action, color, counting, or a .jsonl file of that form."""
    out: Path = Path("runs/evaluate")
    """Receives pictures, report.json, figures and pairs.html; started again, it goes on from there."""
    seeds: tuple[int, ...] = (0, 1)
    """One picture a prompt and seed, for both."""
    clip: Path | None = None
    """Folder of a CLIPModel: CLIP score, and choice of the fitting caption."""
    vqa: Path | None = None
    """Folder of a vision-language model: yes/no questions."""
    training: Path | None = None
    """Folder of the adapter's training, whose losses are drawn."""
    scale: float | None = None
    """Strength of the adapter; None is its own."""
    steps: int = 30
    """Denoising steps."""
    guidance_scale: float | None = None
    """None is the pipeline's default."""
    height: int | None = None
    width: int | None = None
    limit: int | None = None
    """Only the first prompts of the suite."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: bfloat16 where the device has it in hardware, else float32."""


def evaluate(config: EvaluateConfig) -> None:
    """Compare a pipeline with and without its adapter; write report.json, figures and the page for raters.

    Raises:
        FileNotFoundError: A model, the adapter or the suite is not there.
        ValueError: An option is out of range, or ``out`` holds another evaluation.
        MissingExtra: diffusers or matplotlib is not installed.
    """
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"seeds are {config.seeds}; give at least one, none twice")
    if config.limit is not None and config.limit < 2:
        raise ValueError(f"limit is {config.limit}; a comparison needs at least 2 prompts")
    items = load_suite(config.suite)[: config.limit]
    with needs("sur-adapter", "demo"):  # now, not after the pictures
        import matplotlib.figure  # noqa: F401
    scorers = _scorers(config, pick_device(config.device).type)
    pipe, handle = _open(config)
    report = Report("sur-adapter", __version__, seed=config.seeds[0], profile=config.suite, device=pipe.device)
    Run(config.out, config=_identity(config))
    pictures: dict[str, list[list[Image]]] = {}
    for name in ("base", "adapter"):
        handle.set_scale(0.0 if name == "base" else config.scale)
        pictures[name] = _make(pipe, items, config, config.out / name, name)
    report.metrics["truncated prompts"] = len(handle.truncated([item.prompt for item in items]))
    if scorers:
        found = compare(items, pictures["base"], pictures["adapter"], scorers)
        report.metrics |= found.as_metrics()
        report.verdicts += _verdicts(found)
    shown = range(min(_SHOWN, len(items)))
    grid = [(items[at].prompt, [pictures["base"][at][0], pictures["adapter"][at][0]]) for at in shown]
    report.add_figure(plots.picture_grid(grid, ["base", "adapter"], edge=1.6), "grid")
    report.add_figure(plots.token_drift([_drift(pipe, handle, items[at].prompt, config) for at in shown]), "drift")
    if config.training is not None:
        report.add_figure(plots.loss_curves(_losses(config.training)), "losses")
    several = [item.prompt for item in items for _ in config.seeds]
    flat = {name: [one for row in rows for one in row] for name, rows in pictures.items()}
    write_pairs_page(config.out / "pairs.html", several, flat["base"], flat["adapter"], seed=config.seeds[0])
    report.write(config.out)
    print(report.table())
    print(f"\nPairs for raters: {config.out / 'pairs.html'}")


def _scorers(config: EvaluateConfig, device: str) -> list[Scorer]:
    from .integrations.scorers import Clip, ClipChoice, ClipScore, YesNo

    found: list[Scorer] = []
    if config.clip is not None:
        clip = Clip(config.clip, device=device)
        found.append(ClipScore(clip))
        if all(item.options for item in load_suite(config.suite)):
            found.append(ClipChoice(clip))
    if config.vqa is not None:
        found.append(YesNo(config.vqa, device=device))
    return found


def _open(config: EvaluateConfig) -> tuple[Any, Any]:
    """The pipeline on its device with the adapter attached."""
    adapter = load_folder(config.adapter)
    with needs("sur-adapter", "diffusers"):
        import diffusers  # noqa: F401
        import PIL  # noqa: F401
        import transformers  # noqa: F401
    from .integrations._pipeline import load_pipeline
    from .integrations.diffusers import attach

    device = pick_device(config.device)
    dtype = pick_dtype(device) if config.dtype == "auto" else getattr(torch, config.dtype)
    pipe = load_pipeline(config.model, device=device, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe, attach(pipe, adapter, scale=config.scale)


def _identity(config: EvaluateConfig) -> dict[str, Any]:
    """What pictures depend on: a folder with other pictures must not be mixed with them."""
    suite = "\n".join(item.prompt for item in load_suite(config.suite)[: config.limit])
    return {
        "model": config.model,
        "adapter": str(config.adapter),
        "suite": hashlib.sha256(suite.encode()).hexdigest(),
        "scale": config.scale,
        "steps": config.steps,
        "guidance_scale": config.guidance_scale,
        "height": config.height,
        "width": config.width,
        "dtype": config.dtype,
    }


def _make(pipe: Any, items: Sequence[Item], config: EvaluateConfig, folder: Path, name: str) -> list[list["Image"]]:
    """The pictures of one system; those that are there are read."""
    from PIL import Image

    given = {"guidance_scale": config.guidance_scale, "height": config.height, "width": config.width}
    options: dict[str, Any] = {"num_inference_steps": config.steps}
    options |= {name: value for name, value in given.items() if value is not None}
    rows = []
    for number, item in enumerate(tqdm(items, desc=name, disable=None, leave=False)):
        row = []
        for seed in config.seeds:
            path = folder / f"{number:03}-{seed}.png"
            if not path.is_file():
                generator = torch.Generator("cpu").manual_seed(seed)
                buffer = io.BytesIO()
                pipe(item.prompt, generator=generator, **options).images[0].save(buffer, "PNG")
                write_atomic(path, buffer.getvalue())
            with Image.open(path) as image:
                row.append(image.convert("RGB"))
        rows.append(row)
    return rows


def _verdicts(found: Comparison) -> list[Verdict]:
    """Whether the interval over prompts excludes no change."""
    verdicts = []
    for name, one in found.paired.items():
        holds = True if one.low > 0 else False if one.high < 0 else None
        claim = f"the adapter raises the {name}"
        verdicts.append(Verdict(claim, "adapter - base > 0", one.difference, (one.low, one.high), holds))
    return verdicts


def _drift(pipe: Any, handle: Any, prompt: str, config: EvaluateConfig) -> tuple[list[str], Tensor]:
    """Tokens of a prompt and how far the adapter moves each, relative to its length."""
    states = []
    for scale in (0.0, config.scale):
        handle.set_scale(scale)
        states.append(handle.encode(prompt, guidance=False)["prompt_embeds"][0].float().cpu())
    before, after = states
    tokenizer = pipe.tokenizer if getattr(pipe, "tokenizer", None) is not None else pipe.tokenizer_2
    ids = tokenizer(prompt, truncation=True, max_length=len(before))["input_ids"]
    tokens = [str(token).replace("</w>", "").replace("\u2581", "") for token in tokenizer.convert_ids_to_tokens(ids)]
    drift = (after - before).norm(dim=-1) / before.norm(dim=-1).clamp_min(1e-12)
    return tokens, drift[: len(tokens)]


def _losses(folder: Path) -> dict[str, list[float]]:
    """Losses of a training by name, from its metrics."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give the folder of a training")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    names = [
        name for name in ("loss", "diffusion", "prompt", "teacher", "preservation") if any(name in row for row in rows)
    ]
    if not names:
        raise ValueError(f"{path} holds no losses; give the folder of a training")
    return {name: [float(row[name]) for row in rows if row.get(name) is not None] for name in names}
