"""The command `generate`: images of prompts with an adapter, beside those without it, from the same noise."""

import io
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from sail_core.extras import needs
from sail_core.runs import pick_device, pick_dtype, write_atomic
from tqdm import tqdm  # type: ignore[import-untyped]

from ._bundle import load_folder


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Generate images with an adapter attached to a pipeline."""

    model: str
    """The pipeline: a local folder, or its name on the Hub."""
    adapter: Path
    """The local folder of an adapter or a bundle."""
    prompt: tuple[str, ...] = ()
    """Prompts; --prompts-file gives more."""
    prompts_file: Path | None = None
    """A text file with one prompt a line."""
    out: Path = Path("runs/generate/sur-adapter")
    """The folder of the images, generate.json and, with --grid, grid.png."""
    negative_prompt: str | None = None
    negative: Literal["adapt", "skip"] = "adapt"
    """Whether the negative prompt passes through the adapter too."""
    scale: tuple[float, ...] = ()
    """Strengths, one image each; none is the adapter's own."""
    compare: bool = False
    """Also the image without the adapter."""
    grid: bool = False
    """All images in one, a row for each prompt."""
    seed: int = 0
    """Of the first prompt; each further prompt has the next one. All images of a prompt start from the same noise."""
    steps: int = 30
    guidance_scale: float | None = None
    """None is the pipeline's default."""
    true_cfg_scale: float | None = None
    """Flux alone: the guidance that a negative prompt takes part in."""
    height: int | None = None
    width: int | None = None
    clip_skip: int | None = None
    long: Literal["truncate", "chunk"] = "truncate"
    """Prompts of more than 77 tokens: cut, and reported; or in chunks of 75 (SD1.x, SD2, SDXL)."""
    max_sequence_length: int | None = None
    """Tokens that T5 reads (SD3, Flux)."""
    strict_base: bool = False
    """Refuse an adapter that was trained on another base model."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: bfloat16 where the device has it in hardware, else float32."""


def generate(config: GenerateConfig) -> None:
    """Write the images of every prompt."""
    prompts = read_prompts(config)
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
    columns: list[float | None] = [*([0.0] if config.compare else []), *(config.scale or [None])]
    rows, listed = [], []
    with attach(pipe, adapter, strict_base=config.strict_base) as handle:
        cuts = (
            [] if config.long == "chunk" else handle.truncated(prompts, max_sequence_length=config.max_sequence_length)
        )
        for cut in cuts:
            print(f"warning: {cut}", file=sys.stderr)
        bar = tqdm(total=len(prompts) * len(columns), unit="image", delay=2, disable=None)
        for number, prompt in enumerate(prompts):
            row = []
            for scale in columns:
                handle.set_scale(scale)
                name = f"{number:04d}-{'own' if scale is None else f'{scale:g}'}.png"
                image = _image(pipe, handle, prompt, config, config.seed + number)
                write_atomic(config.out / name, _png(image))
                row.append(image)
                listed.append({"file": name, "prompt": prompt, "scale": handle.scales, "seed": config.seed + number})
                bar.update()
            rows.append(row)
        bar.close()
    if config.grid:
        write_atomic(config.out / "grid.png", _png(_grid(rows)))
    record = {"config": asdict(config), "truncated": [asdict(cut) for cut in cuts], "images": listed}
    write_atomic(config.out / "generate.json", json.dumps(record, indent=1, default=str, ensure_ascii=False) + "\n")
    print(f"{config.out}: {len(listed)} images of {len(prompts)} prompts{', grid.png' if config.grid else ''}")


def read_prompts(config: GenerateConfig) -> list[str]:
    """Return the prompts of the command line and of the file; blank lines of the file are no prompts."""
    prompts = list(config.prompt)
    if config.prompts_file is not None:
        lines = config.prompts_file.read_text(encoding="utf-8").splitlines()
        prompts += [line.strip() for line in lines if line.strip()]
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise ValueError(f"prompt {number} of {len(prompts)} is empty")
    if not prompts:
        raise ValueError("there is no prompt; give --prompt, or --prompts-file with one a line")
    return prompts


def _image(pipe: Any, handle: Any, prompt: str, config: GenerateConfig, seed: int) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".* reads \d+ of \d+ tokens")  # reported once, before
        encoded = handle.encode(
            prompt,
            config.negative_prompt,
            negative=config.negative,
            guidance=config.guidance_scale is None or config.guidance_scale > 1,
            clip_skip=config.clip_skip,
            long=config.long,
            max_sequence_length=config.max_sequence_length,
        )
    chosen = {name: getattr(config, name) for name in ("guidance_scale", "true_cfg_scale", "height", "width")}
    chosen["max_sequence_length"] = config.max_sequence_length
    options = {name: value for name, value in chosen.items() if value is not None}
    generator = torch.Generator().manual_seed(seed)
    return pipe(**encoded, num_inference_steps=config.steps, generator=generator, **options).images[0]


def _grid(rows: list[list[Any]]) -> Any:
    from PIL import Image

    width, height = rows[0][0].size
    gap = max(2, width // 64)
    size = (len(rows[0]) * (width + gap) - gap, len(rows) * (height + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * (width + gap), y * (height + gap)))
    return sheet


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
