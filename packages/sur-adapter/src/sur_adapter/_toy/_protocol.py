"""A protocol file: everything that decides a run of the toy world, fixed before it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from sur_adapter._step import Weights

from ._adapt import AdaptConfig
from ._prompts import Prompt, Split, draw_prompts
from ._world import Kind

SUITES: dict[Kind, tuple[str, ...]] = {"digits": ("mention", "reasoning", "colour"), "counting": ("counting",)}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is trained, with which seeds, and on which prompts it is checked.

    Attributes:
        worlds: By world, its seeds.
        split: The prompts that it is checked on: ``"tuning"`` while settings are chosen, ``"test"`` once, after that.
        base_steps: Training steps of a base, by world.
        base_learning_rate: Of the bases.
        prompts: By suite, training prompts.
        checked: Prompts that each suite is checked on.
        teacher: ``"minilm"``, the sentence encoder of the extra, or None.
        training: Of every system, but for what ``systems`` changes.
        systems: By name, the changes to ``training``; the key ``"weights"`` holds changes to the weights.
        steps: By world, training steps of its adapters, where they differ.
    """

    worlds: Mapping[Kind, tuple[int, ...]]
    split: Split
    base_steps: Mapping[Kind, int]
    prompts: Mapping[str, int]
    checked: int
    teacher: Literal["minilm"] | None
    training: AdaptConfig
    systems: Mapping[str, Mapping[str, Any]]
    steps: Mapping[Kind, int] = field(default_factory=dict)
    base_learning_rate: float = 2e-3

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a protocol file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A key or a value is not known; it is named.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            data.pop("note", None)
            data["worlds"] = {kind: tuple(seeds) for kind, seeds in data["worlds"].items()}
            weights = Weights(**data["training"].pop("weights"))
            data["training"] = AdaptConfig(**data["training"], weights=weights)
            protocol = cls(**data)
            for name in protocol.systems:
                protocol.config(name, "digits")
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no protocol of the toy world: {error}") from None
        if protocol.split not in ("tuning", "test") or not protocol.worlds.keys() <= SUITES.keys():
            raise ValueError(f"{path}: split must be tuning or test, worlds digits or counting")
        return protocol

    def config(self, system: str, kind: Kind) -> AdaptConfig:
        """The training of a system in a world."""
        changes = dict(self.systems[system])
        weights = replace(self.training.weights, **changes.pop("weights", {}))
        unknown = changes.keys() - {one.name for one in fields(AdaptConfig)}
        if unknown:
            raise TypeError(f"the system {system} changes {sorted(unknown)[0]!r}, which a training does not have")
        changes = {"steps": self.steps.get(kind, self.training.steps), **changes}
        return replace(self.training, weights=weights, **changes)

    def training_prompts(self, kind: Kind) -> list[Prompt]:
        """The same for every seed and system."""
        return [one for suite in SUITES[kind] for one in draw_prompts(suite, "train", self.prompts[suite], seed=0)]

    def checks(self, kind: Kind, seed: int) -> dict[str, list[Prompt]]:
        """By suite, the prompts that the systems of a seed are checked on."""
        return {suite: draw_prompts(suite, self.split, self.checked, seed=seed) for suite in SUITES[kind]}
