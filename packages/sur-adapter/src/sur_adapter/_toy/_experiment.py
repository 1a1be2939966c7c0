"""One seed of one world: train the base, then every system, check each; go on where an earlier run stopped."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from sail_core.runs import latest, load_state, save_state, write_atomic
from torch import Tensor

from sur_adapter._adapter import SURAdapter

from ._adapt import adapt
from ._check import Check, check
from ._digits import load_digits
from ._judge import train_judge
from ._protocol import Protocol
from ._world import Kind, World, train_base, untrained

BASE = "base"


@dataclass(frozen=True)
class Result:
    """What one system of one seed gave.

    Attributes:
        check: Its hits and pictures.
        curves: Losses by name, one value a step; empty for the base.
        seconds: Processor time of its training.
    """

    check: Check
    curves: Mapping[str, list[float]]
    seconds: float


def run_seed(
    protocol: Protocol,
    kind: Kind,
    seed: int,
    out: Path,
    *,
    teacher: Tensor | None = None,
    systems: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
    deadline: float | None = None,
) -> dict[str, Result]:
    """Train and check the base and every system of a protocol with one seed.

    Args:
        protocol: What to do.
        kind: The world.
        seed: Of base, adapters, checked prompts and noise.
        out: Receives a folder for each system; those that are whole are read instead.
        teacher: Vectors of the training prompts, or None.
        systems: Only these beside the base; None is all.
        device: Where it is trained.
        progress: Whether to draw bars, on a terminal.
        deadline: On the clock of ``time.monotonic``; no training begins after it.

    Returns:
        By system, with the base first; those that the deadline left.
    """
    torch.set_num_threads(1)
    digits, held_out = load_digits()
    world = base_of(protocol, kind, seed, out, device=device, progress=progress)
    prompts, checks = protocol.training_prompts(kind), protocol.checks(kind, seed)
    judge = None
    found: dict[str, Result] = {}
    for name in (BASE, *(protocol.systems if systems is None else systems)):
        folder = out / name.replace(" ", "-")
        if not (folder / "result.json").is_file():
            if deadline is not None and time.monotonic() > deadline:
                break
            judge = judge or train_judge(digits, held_out)
            started, adapter, curves = time.process_time(), None, {}
            if name != BASE:
                config = protocol.config(name, kind)
                vectors = teacher if config.weights.teacher else None
                trained = adapt(
                    world, digits, prompts, config, seed=seed, teacher=vectors, label=name, progress=progress
                )
                adapter, curves = trained.adapter, dict(trained.curves)
                adapter.save_pretrained(folder / "adapter")
            seconds = time.process_time() - started
            one = check(world, judge, checks, adapter, seed=seed)
            _write(folder, Result(one, curves, seconds))
        found[name] = _read(folder)
    return found


def base_of(
    protocol: Protocol,
    kind: Kind,
    seed: int,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> World:
    """The base of a seed, from its folder or trained now."""
    folder = out / "base-model"
    there = latest(folder)
    if there is None:
        digits, _ = load_digits()
        world = train_base(
            kind,
            digits,
            steps=protocol.base_steps[kind],
            seed=seed,
            learning_rate=protocol.base_learning_rate,
            device=device,
            progress=progress,
        )
        save_state(folder, {"encoder": world.encoder.state_dict(), "denoiser": world.denoiser.state_dict()}, step=1)
        return world
    world, state = untrained(kind, device=device), load_state(there)
    world.encoder.load_state_dict(state["encoder"])
    world.denoiser.load_state_dict(state["denoiser"])
    return world.freeze()


def adapter_of(out: Path, system: str) -> SURAdapter:
    """The trained adapter of a system."""
    return SURAdapter.from_pretrained(out / system.replace(" ", "-") / "adapter").eval()


def _write(folder: Path, result: Result) -> None:
    """Pictures first, then the file that says that the folder is whole."""
    pictures = {name: one.contiguous() for name, one in result.check.pictures.items()}
    write_atomic(folder / "pictures.safetensors", safetensors.torch.save(pictures))
    data: dict[str, Any] = asdict(result)
    data["check"] = {"hits": dict(result.check.hits)}
    write_atomic(folder / "result.json", json.dumps(data) + "\n")


def _read(folder: Path) -> Result:
    data = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    pictures = safetensors.torch.load((folder / "pictures.safetensors").read_bytes())
    return Result(Check(data["check"]["hits"], pictures), data["curves"], data["seconds"])
