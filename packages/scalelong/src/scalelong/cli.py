"""The command ``scalelong``."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from sail_core.command import main as run_command

from ._build import conditioned
from ._compare import compare
from ._data import Images, load_images
from ._train import TrainConfig, fit, load_trained, read_config
from .demo import PROTOCOLS, demo

RECIPES = Path(__file__).parent / "recipes"
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class TrainCommand(TrainConfig):
    """Train a noise predictor with scaled skips; the same command goes on where a killed one stopped.

    For several processes or machines start the same command with ``accelerate launch`` or ``torchrun``.
    """

    out: Path = Path("runs/train/scalelong")
    """Run directory. Another configuration in the same directory is refused."""
    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class RecipeCommand:
    """Train with the settings of a recipe: the authors' for CIFAR-10, the shapes of the U-ViT paper for the others."""

    name: Literal["cifar10", "celeba64", "imagenet64", "coco"]
    data: str
    """Folder of pictures or archive; coco needs context.safetensors beside its pictures."""
    scaling: Literal["org", "sqrt2", "cs", "ls"] = "cs"
    kappa: float = 0.7
    steps: int | None = None
    """Fewer steps than the recipe's."""
    batch_size: int | None = None
    seed: int = 0
    out: Path = Path("runs/train/scalelong")
    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class SampleCommand:
    """Draw pictures from a training's averaged network: a grid as PNG and the pixels as safetensors."""

    run: Path
    """The directory of a training."""
    out: Path = Path("samples.png")
    count: int = 64
    steps: int = 50
    """Steps of DDIM."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Compare drawn with real held-out pictures in the features of a classifier trained here; it is not FID."""

    run: Path
    """The directory of a training on pictures with classes."""
    count: int = 500
    steps: int = 50
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DiagnoseCommand:
    """Print norms, gradients and input gain of a training's network beside the theorems' bounds, as JSON."""

    run: Path
    """The directory of a training."""
    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Run a protocol file: arms, learning rates and seeds; judge its claims, write the report and the figures."""

    protocol: Path = PROTOCOLS / "deciding.json"
    """Default: the deciding experiment of docs/claims/scalelong.md."""
    out: Path = Path("runs/compare/scalelong")
    seed: int = 0
    device: Device = "auto"
    workers: int | None = None
    """Trainings at once; one a core by default."""


@dataclass(frozen=True, kw_only=True)
class FoldCommand:
    """Write a training's network with its scaling folded into the weights: the plain architecture, as safetensors."""

    run: Path
    """The directory of a training."""
    out: Path = Path("folded.safetensors")


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Time a training step of a small network with and without scaling on this machine; print JSON lines."""

    model: Literal["uvit", "unet"] = "uvit"
    size: int = 32
    batch_size: int = 8
    seconds: float = 5.0
    """For each implementation."""
    device: Literal["cpu", "cuda"] = "cpu"


def train(config: TrainCommand) -> None:
    """Train, or go on with the training of the run directory."""
    settings = TrainConfig(**{field.name: getattr(config, field.name) for field in fields(TrainConfig)})
    _train(settings, config.out, config.device)


def recipe(config: RecipeCommand) -> None:
    """Train with the settings of a recipe."""
    settings = json.loads((RECIPES / f"{config.name}.json").read_text(encoding="utf-8"))
    settings |= {"data": config.data, "scaling": config.scaling, "kappa": config.kappa, "seed": config.seed}
    settings |= {name: value for name in ("steps", "batch_size") if (value := getattr(config, name)) is not None}
    settings["betas"] = tuple(settings["betas"])
    _train(TrainConfig(**settings), config.out, config.device)


def _train(settings: TrainConfig, out: Path, device: str) -> None:
    images, held_out = _splits(settings)
    result = fit(settings, images, held_out, out, device=device)
    if result.nonfinite_step is not None:
        print(f"the loss or gradient of step {result.nonfinite_step} was not finite; the weights before it are kept")
    loss = f", probe loss {result.probe[-1][1]:.4f}" if result.probe else ""
    print(f"{result.steps} steps{loss}, in {out}")


def _splits(settings: TrainConfig) -> tuple[Images, Images]:
    images, held_out = (load_images(settings.data, size=settings.size, split=split) for split in ("train", "test"))
    return images, held_out


def draw(config: SampleCommand) -> None:
    """Draw pictures and write them."""
    import io

    import safetensors.torch
    from PIL import Image
    from sail_core.runs import write_atomic

    from ._sample import picture_grid, sample

    settings = read_config(config.run)
    images = load_images(settings.data, size=settings.size)
    if not 1 <= config.count <= len(images):
        raise ValueError(
            f"count is {config.count}; it must be 1 to {len(images)}, as many as there are training pictures"
        )
    like = conditioned(images, settings)[slice(0, config.count)]
    pixels = sample(load_trained(config.run, images), like, steps=config.steps, seed=config.seed)
    grid = ((picture_grid(pixels, columns=8) + 1) * 127.5).round().byte().permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(grid.squeeze(-1).numpy()).save(buffer, format="PNG")
    write_atomic(config.out, buffer.getvalue())
    write_atomic(config.out.with_suffix(".safetensors"), safetensors.torch.save({"pixels": pixels}))
    print(f"{config.count} pictures in {config.out}")


def evaluate(config: EvaluateCommand) -> None:
    """Print the distances as JSON."""
    from ._evaluate import quality, train_classifier
    from ._sample import sample

    settings = read_config(config.run)
    images, held_out = _splits(settings)
    like = conditioned(images, settings)[slice(0, config.count)]
    pixels = sample(load_trained(config.run, images), like, steps=config.steps, seed=config.seed)
    print(json.dumps(asdict(quality(train_classifier(images), held_out.pixels, pixels)), indent=1))


def diagnostics(config: DiagnoseCommand) -> None:
    """Print the diagnostics of the network on a fixed noised batch, as JSON."""
    from ._diagnose import diagnose
    from ._diffusion import Probe, noise_schedule

    settings = read_config(config.run)
    images = conditioned(load_images(settings.data, size=settings.size, split="test"), settings)
    probe = Probe(images, noise_schedule(), size=config.batch_size)
    noisy = probe.schedule.add_noise(probe.images.pixels, probe.noise, probe.t)
    names = ("x", "timesteps", "y") if settings.model == "uvit" else ("sample", "timestep", "class_labels")
    batch = dict(zip(names, (noisy, probe.t, probe.images.labels), strict=True)) | {"context": probe.images.context}
    given = {name: value for name, value in batch.items() if value is not None}
    found = diagnose(
        load_trained(config.run, load_images(settings.data, size=settings.size)), given, target=probe.noise
    )
    print(json.dumps(found.as_dict(), indent=1))


def run_protocol(config: CompareCommand) -> None:
    """Run the protocol and print its table."""
    from . import __version__

    report = compare(
        config.protocol,
        config.out,
        version=__version__,
        seed=config.seed,
        profile=config.protocol.stem,
        device=config.device,
        workers=config.workers,
    )
    print(report.table())


def fold_run(config: FoldCommand) -> None:
    """Fold and write the weights."""
    import safetensors.torch
    from sail_core.runs import write_atomic

    from ._fold import fold

    settings = read_config(config.run)
    model = load_trained(config.run, load_images(settings.data, size=settings.size))
    fold(model)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_atomic(config.out, safetensors.torch.save(tensors))
    print(f"the folded weights are in {config.out}")


def bench(config: BenchCommand) -> None:
    """Print the rows of the comparison."""
    from ._bench import step_rows

    for row in step_rows(config.model, config.size, config.batch_size, config.device, config.seconds):
        print(json.dumps(row))


def main() -> int:
    """Run the command line and give its exit code: 0 done, 1 failed, 2 bad input or usage."""
    return run_command(
        {
            "demo": demo,
            "train": train,
            "recipe": recipe,
            "sample": draw,
            "evaluate": evaluate,
            "diagnose": diagnostics,
            "compare": run_protocol,
            "fold": fold_run,
            "bench": bench,
        },
        prog="scalelong",
        description="Scaling of the long skip connections of UNets and U-ViTs.",
    )
