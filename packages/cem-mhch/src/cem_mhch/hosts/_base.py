"""What a host is: a module that reads a dialogue turn by turn and scores a handoff at each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

if TYPE_CHECKING:
    from cem_mhch._batch import Batch

State = dict[str, Tensor]
"""What a host remembers of the turns so far; the first dimension of every tensor is the dialogue."""


class HostOutput(NamedTuple):
    """Scores of a host, turn by turn.

    Attributes:
        handoff_logits: `(B, T, 2)`, normal and transferable.
        hidden: `(B, T, d)`, what the host knows at the turn; the causal module reads it.
        sentiment_logits: `(B, T, 3)`, negative, neutral and positive, or None where the host has none.
    """

    handoff_logits: Tensor
    hidden: Tensor
    sentiment_logits: Tensor | None = None


class HandoffModel(nn.Module, ABC):
    """A host that can be built by name, saved as JSON and safetensors, and run one turn at a time.

    `CEM` takes any module whose `forward(batch)` gives a `HostOutput` and that has the attribute `hidden_size`; one
    that also has `initial_state` and `step` can stream. The hosts of this package are all of it.

    Attributes:
        name: What `build` calls the host.
        hidden_size: Width d of `HostOutput.hidden`.
        options: The keyword arguments that build it again, as JSON has them.
    """

    name: str
    hidden_size: int
    options: dict[str, Any]

    @abstractmethod
    def forward(self, batch: Batch) -> HostOutput:
        """Score all turns of a batch; the scores of a turn depend on it and on earlier turns only."""

    @abstractmethod
    def initial_state(self, batch_size: int = 1) -> State:
        """The state before the first turn."""

    @abstractmethod
    def step(self, turn: Batch, state: State) -> tuple[HostOutput, State]:
        """Score one more turn of each dialogue.

        Args:
            turn: A batch with T = 1, a real turn in every row.
            state: What the previous step, or `initial_state`, gave.

        Returns:
            The output `(B, 1, ...)`, equal to that of `forward` over the whole dialogue, and the next state.
        """

    @staticmethod
    def build(name: str, **options: Any) -> HandoffModel:
        """Build a host by its name.

        Args:
            name: `hgru`, `dami_lite`, `rssn`, or `hf:` and a transformers model (a folder, or a name on the hub).
            options: Keyword arguments of the host's class, such as `vocab_size` (all but `hf`).

        Raises:
            ValueError: There is no host of that name.
            TypeError: The host has no such option, or lacks one that it needs.

        Example:
            >>> HandoffModel.build("hgru", vocab_size=100).hidden_size
            128
        """
        from . import HGRU, RSSN, DAMILite

        hosts: dict[str, type[HandoffModel]] = {host.name: host for host in (HGRU, DAMILite, RSSN)}
        if name.startswith("hf:"):
            from cem_mhch.integrations.transformers import TransformersHost

            return TransformersHost(model=name.removeprefix("hf:"), **options)
        if name not in hosts:
            raise ValueError(f"there is no host {name!r}; the hosts are {', '.join(hosts)} and hf:<model>")
        return hosts[name](**options)
