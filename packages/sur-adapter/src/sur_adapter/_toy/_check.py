"""What a system's pictures show: hits by suite, with the same prompts and noise for every system."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sur_adapter._adapter import SURAdapter

from ._judge import Judge
from ._prompts import Prompt
from ._world import World, sample

CHANCE = {
    "complex": 0.1,
    "complex, colour": 1 / 6,
    "mention": 0.1,
    "reasoning": 0.1,
    "reasoning, new phrases": 0.1,
    "colour": 1 / 6,
    "complex, count": 0.25,
    "counting": 0.25,
}


@dataclass(frozen=True)
class Check:
    """Hits of one system.

    Attributes:
        hits: By suite, whether each picture shows what its prompt asks for.
        pictures: By suite, the first pictures ``(n, C, H, W)`` in -1 .. 1.
    """

    hits: Mapping[str, list[bool]]
    pictures: Mapping[str, Tensor]

    def accuracy(self, suite: str) -> float:
        """Share of hits."""
        return sum(self.hits[suite]) / len(self.hits[suite])


def check(
    world: World,
    judge: Judge,
    prompts: Mapping[str, list[Prompt]],
    adapter: SURAdapter | None,
    *,
    seed: int,
    keep: int = 12,
) -> Check:
    """Make a picture for every prompt and judge it.

    Args:
        world: The base.
        judge: Of what pictures show.
        prompts: By suite.
        adapter: None checks the base alone.
        seed: Of the noise, the same for every system.
        keep: Pictures of each suite to give back.

    Returns:
        The hits: narrative prompts under the name of their suite, the keyword prompts of the first suite as
        ``"complex"``.
    """
    hits: dict[str, list[bool]] = {}
    pictures: dict[str, Tensor] = {}

    def make(texts: list[str], name: str) -> Tensor:
        states = world.encode(texts)
        if adapter is not None:
            with torch.no_grad():
                states = adapter(states)
        made = sample(world, states, seed=seed)
        pictures[name] = made[:keep]
        return made

    first = next(iter(prompts.values()))
    made = make([one.complex for one in first], "complex")
    if world.kind == "counting":
        hits["complex, count"] = _equal(judge.counts(made), [one.target for one in first])
    else:
        hits["complex"] = _equal(judge.digits(made), [one.digit for one in first])
        hits["complex, colour"] = _equal(judge.colours(made), [one.colour for one in first])
    judges = {"colour": judge.colours, "counting": judge.counts}
    for suite, several in prompts.items():
        made = make([one.narrative for one in several], suite)
        hits[suite] = _equal(judges.get(suite, judge.digits)(made), [one.target for one in several])
        if suite == "reasoning":
            fresh = [hit for hit, one in zip(hits[suite], several, strict=True) if one.fresh]
            hits["reasoning, new phrases"] = fresh
    return Check(hits, pictures)


def _equal(found: Tensor, wanted: list[int]) -> list[bool]:
    return [bool(one) for one in found == torch.tensor(wanted)]
