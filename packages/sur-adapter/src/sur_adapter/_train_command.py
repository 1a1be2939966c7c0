"""The command train: a recipe in TOML, with single values set on the command line."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sail_core.extras import needs

from ._train_config import TrainConfig

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train an adapter; the same command goes on where a killed one stopped, torchrun makes it many processes."""

    config: str = "sd15"
    """A recipe of this package (sd15, sdxl), or a TOML file of the same form."""
    set: tuple[str, ...] = ()
    """NAME=VALUE of a training option, such as model=./sd15 data=./SURD.zip steps=1000."""
    diffusion: bool = True
    """Without it neither denoiser nor images are read: the cheap alignment run."""
    out: Path = Path("runs/train/sur-adapter")
    """Run directory. Another configuration in the same directory is refused."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    show: bool = False
    """Print the options and what the recipe predicts of memory and time, and train nothing."""


def train_command(config: TrainCommand) -> int:
    """Train, and print where the adapter is; 1 when a loss was not finite."""
    changes = config.set if config.diffusion else (*config.set, "diffusion_weight=0.0")
    settings, predicted = read_recipe(config.config, changes)
    if config.show:
        for field in fields(settings):
            print(f"{field.name} = {getattr(settings, field.name)!r}")
        for name, value in predicted.items():
            print(f"predicted, not measured: {name} {value}")
        return 0
    with needs("sur-adapter", "train"):
        from .integrations.training import train
    result = train(settings, config.out, device=config.device)
    if result.nonfinite_step is not None:
        print(f"step {result.nonfinite_step} had a loss or gradient that is not finite; the weights before it are kept")
    print(f"{result.steps} steps; the adapter is in {result.directory / 'adapter'}")
    return int(result.nonfinite_step is not None)


def read_recipe(name: str, changes: tuple[str, ...] = ()) -> tuple[TrainConfig, dict[str, Any]]:
    """Read a recipe.

    Args:
        name: Of one in this package, or a TOML file: a table ``train`` with the fields of `TrainConfig`, and perhaps a
            table ``predicted``.
        changes: ``NAME=VALUE``; a value is read as TOML, and as text where it is none.

    Returns:
        The config, and the predictions.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: It is no TOML, an option is unknown or has the wrong type, or model or data is missing.
    """
    path = RECIPES / f"{name}.toml" if (RECIPES / f"{name}.toml").is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in RECIPES.glob("*.toml")))
        raise FileNotFoundError(f"there is no recipe {name!r} ({known}) and no file of that name")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    if unknown := sorted(content.keys() - {"train", "predicted"}):
        raise ValueError(f"{path} has a table {unknown[0]!r}; it may have train and predicted")
    options: dict[str, Any] = dict(content.get("train", {}))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} sets nothing; write NAME=VALUE, such as steps=1000")
        options[key.strip()] = _value(value.strip())
    known_fields = {field.name for field in fields(TrainConfig)}
    if unknown := sorted(options.keys() - known_fields):
        raise ValueError(f"there is no training option {unknown[0]!r}; --show lists them all")
    if missing := [one for one in ("model", "data") if not options.get(one)]:
        raise ValueError(f"give the {missing[0]}: --set {missing[0]}=PATH")
    for option, value in options.items():
        _check_type(option, value)
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return TrainConfig(**options), dict(content.get("predicted", {}))


def _value(text: str) -> Any:
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_type(name: str, value: Any) -> None:
    """Compare with the annotation, of which only str, int, float, bool, tuples, None and words occur."""
    import types
    import typing

    wanted = typing.get_type_hints(TrainConfig)[name]
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    for option in options:
        if typing.get_origin(option) is Literal and value in typing.get_args(option):
            return
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            return
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return
        if option in (str, int, bool) and type(value) is option:
            return
        if option is type(None) and value is None:
            return
    shown = str(wanted).replace("typing.", "")
    raise ValueError(f"{name} is {value!r}; expected {shown}")
