"""CEM: a host's handoff, corrected by the state of the user, priced by a cost simulator."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from . import _save, functional
from ._cost import CostModel, CostSimulator, inverse_propensity_loss
from ._losses import handoff_loss, satisfaction_loss, sentiment_loss
from ._user_state import UserState, UserStateHead
from .hosts._base import HostOutput, State

if TYPE_CHECKING:
    from ._batch import Batch


@dataclass(frozen=True, kw_only=True)
class CEMConfig:
    """What CEM adds to a host, and the weights of its losses.

    Args:
        beta: Strength of the user-state correction, >= 0. 0 is fixed and leaves the host's handoff exactly as it is;
            any other value is where the learned strength softplus(b) starts.
        mode: `"causal"`, or `"paper_code"` for the product and the loss as the authors released them (not causal, not
            normalised, with the sentiments exchanged): for comparison only.
        state_size: Width of the user state.
        dropout: Of the user state.
        positive_weight: Weight of transferable turns in the handoff loss, > 0.
        focal_gamma: Focusing of the handoff loss; 0 is the plain likelihood.
        sentiment_weight: Of the sentiment loss on user turns.
        satisfaction_weight: Of the satisfaction loss.
        cost_weight: Of the expected cost in the second stage of training; 0 leaves the simulator out of the handoff.
        max_weight: Largest inverse propensity in the simulator's loss, >= 1.
        explore: The action of a turn whose log holds none is drawn from the model's handoff probability, held between
            this value and 1 minus it; in (0, 0.5].

    Raises:
        ValueError: A value is outside its range.
    """

    beta: float = 1.0
    mode: Literal["causal", "paper_code"] = "causal"
    state_size: int = 64
    dropout: float = 0.2
    positive_weight: float = 3.0
    focal_gamma: float = 0.0
    sentiment_weight: float = 0.5
    satisfaction_weight: float = 0.3
    cost_weight: float = 0.01
    max_weight: float = 20.0
    explore: float = 0.1

    def __post_init__(self) -> None:
        if self.mode not in ("causal", "paper_code"):
            raise ValueError(f"mode is {self.mode!r}; it must be 'causal' or 'paper_code'")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "mode" and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} is {value}: give a finite number >= 0")
        for name, least in (("state_size", 1), ("max_weight", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least {least}")
        if self.positive_weight == 0 or not 0 < self.explore <= 0.5 or self.dropout >= 1:
            raise ValueError(
                f"positive_weight {self.positive_weight}, explore {self.explore} and dropout {self.dropout} must lie "
                "in (0, inf), (0, 0.5] and [0, 1)"
            )


@dataclass
class HandoffOutput:
    """What CEM says of each turn.

    Attributes:
        logits: `(B, T, 2)`, handoff logits after the correction (log q in mode `"paper_code"`).
        probs: `(B, T, 2)`, normal and transferable (q in mode `"paper_code"`, which does not sum to 1).
        sentiment_logits: `(B, T, 3)`, of the last user turn: negative, neutral, positive.
        satisfaction: `(B, T, 3)`, log-probabilities of unsatisfied, met, well satisfied, as known at the turn.
        user_state: `(B, T, d)`.
        cost: `(B, T, 2)`, predicted costs of do(no handoff) and of do(handoff).
        loss: The training loss, or None where the batch has no label.
        losses: Its parts before they are weighted.
    """

    logits: Tensor
    probs: Tensor
    sentiment_logits: Tensor
    satisfaction: Tensor
    user_state: Tensor
    cost: Tensor
    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None

    @property
    def expected_cost(self) -> Tensor:
        """`(B, T)`: the predicted cost under the handoff probabilities."""
        return (self.probs * self.cost).sum(-1)


class CEM(nn.Module):
    """The causal-enhance module around a host.

    log p'(h) = log_softmax(log p(h) + beta [log(p_neutral + p_positive), log p_negative]), see
    `functional.state_correction`; the sentiments are those of the last user turn. A second network, the cost simulator,
    learns f(x, a) from the cost of actions that were taken, by inverse propensity weighting; in the second stage of
    training it is frozen and the expected cost sum_a p'(a) f(x, a) joins the loss.

    Args:
        host: A `HandoffModel`, or any module whose `forward(batch)` gives a `HostOutput` and that has `hidden_size`.
        config: Strengths and weights.
        cost: The cost matrix, used where the logs hold no costs.

    Attributes:
        stage: 1 while the simulator is learned, 2 once it is frozen.

    Raises:
        TypeError: The host has no integer `hidden_size`.

    Example:
        >>> from cem_mhch import CEM, CEMConfig, HandoffModel
        >>> model = CEM(HandoffModel.build("hgru", vocab_size=50), CEMConfig(beta=1.0))
        >>> round(model.beta.item(), 4), model.stage
        (1.0, 1)

    The paper: S. Zhong et al., *CEM: Machine-Human Chatting Handoff via Causal-Enhance Module*, EMNLP 2022,
    arXiv 2210.02862.
    """

    def __init__(
        self,
        host: nn.Module,
        config: CEMConfig | None = None,
        cost: CostModel | None = None,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        width = getattr(host, "hidden_size", None)
        if not isinstance(width, int):
            raise TypeError(
                f"the host {type(host).__name__} has no integer hidden_size (it is {width!r}); CEM needs the width of "
                "HostOutput.hidden"
            )
        self.config = config or CEMConfig()
        self.cost = cost or CostModel()
        self.stage: Literal[1, 2] = 1
        self.host = host
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.user = UserStateHead(width, self.config.state_size, dropout=self.config.dropout, **place)
        self.simulator = CostSimulator(width, **place)
        start = self.config.beta
        self.raw_beta = None
        if start > 0 and self.config.mode == "causal":
            self.raw_beta = nn.Parameter(torch.tensor(start + math.log(-math.expm1(-start)), **place))

    @property
    def beta(self) -> Tensor:
        """The strength of the correction, softplus of its parameter; 0 where it is fixed."""
        if self.raw_beta is None:
            return torch.zeros(())
        return nn.functional.softplus(self.raw_beta)

    def freeze_simulator(self) -> None:
        """Enter the second stage: the simulator learns no more, and its expected cost joins the loss."""
        self.stage = 2
        self.simulator.requires_grad_(False)

    def forward(self, batch: Batch) -> HandoffOutput:
        """Score all turns of a batch.

        Args:
            batch: Tokens and roles; labels, where there are some, give the loss.

        Raises:
            ValueError: A token id is outside the vocabulary that the host was built for.
        """
        size = getattr(self.host, "options", {}).get("vocab_size")
        if size is not None and int(batch.tokens.max()) >= size:
            raise ValueError(
                f"a token has the id {int(batch.tokens.max())}, the host was built for ids below {size}: use the "
                "vocabulary it was trained with"
            )
        found: HostOutput = self.host(batch)
        user = batch.mask & (batch.role == 0)
        state = self.user(found.hidden, user, found.sentiment_logits)
        out = self._output(found, state, user)
        if (
            bool((batch.handoff >= 0).any())
            or bool((batch.sentiment >= 0).any())
            or bool((batch.satisfaction >= 0).any())
        ):
            self._add_loss(out, batch, user)
        return out

    def initial_state(self, batch_size: int = 1) -> State:
        """The state before the first turn.

        Raises:
            ValueError: The host or the mode cannot stream.
        """
        if self.config.mode == "paper_code" or not hasattr(self.host, "step"):
            raise ValueError(
                f"mode {self.config.mode!r} around {type(self.host).__name__} cannot stream: it takes mode 'causal' "
                "and a host with initial_state and step"
            )
        state = {f"user.{name}": value for name, value in self.user.initial_state(batch_size).items()}
        host: State = self.host.initial_state(batch_size)  # type: ignore[operator]
        return state | {f"host.{name}": value for name, value in host.items()}

    def step(self, turn: Batch, state: State) -> tuple[HandoffOutput, State]:
        """Score one more turn of each dialogue, as `forward` scores it within the whole.

        Args:
            turn: A batch with T = 1, a real turn in every row.
            state: What the previous step, or `initial_state`, gave.

        Returns:
            The output `(B, 1, ...)` without a loss, and the next state.
        """
        parts: dict[str, State] = {"host": {}, "user": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        found, host = self.host.step(turn, parts["host"])  # type: ignore[operator]
        user = turn.role == 0
        read, mine = self.user.step(found.hidden, user, parts["user"], found.sentiment_logits)
        state = {f"host.{name}": value for name, value in host.items()}
        return self._output(found, read, user), state | {f"user.{name}": value for name, value in mine.items()}

    def save_pretrained(self, directory: str | PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors`, each atomically, the second named in the first by its hash.

        Args:
            directory: Made when missing. The host's options are saved too, if it is a `HandoffModel`.
        """
        _save.save(self, directory)

    @classmethod
    def from_pretrained(cls, directory: str | PathLike[str], *, host: nn.Module | None = None) -> CEM:
        """Load what `save_pretrained` wrote, on the CPU and in eval mode. Nothing is unpickled or downloaded.

        Args:
            directory: The folder.
            host: An instance of the saved host, needed only where its class is not one of this package.

        Returns:
            The model, in the stage it was saved in.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A file is damaged, they are not from the same save, or they do not fit the host.
        """
        return _save.load(cls, directory, host)

    def _output(self, found: HostOutput, state: UserState, user: Tensor) -> HandoffOutput:
        if self.config.mode == "paper_code":
            probs = functional.paper_code_product(found.handoff_logits, state.sentiment_logits, state.weights, user)
            logits = (probs + 1e-9).log()
        elif self.raw_beta is None:
            logits, probs = found.handoff_logits, found.handoff_logits.softmax(-1)
        else:
            logits = functional.state_correction(found.handoff_logits, state.negative, self.beta)
            probs = logits.exp()
        return HandoffOutput(
            logits, probs, state.sentiment_logits, state.satisfaction, state.vector, self.simulator(found.hidden)
        )

    def _add_loss(self, out: HandoffOutput, batch: Batch, user: Tensor) -> None:
        config = self.config
        if config.mode == "paper_code":
            handoff = functional.paper_code_loss(out.probs, batch.handoff, batch.mask)
        else:
            handoff = handoff_loss(
                out.logits.log_softmax(-1),
                batch.handoff,
                positive_weight=config.positive_weight,
                focal_gamma=config.focal_gamma,
            )
        parts = {
            "handoff": handoff,
            "sentiment": sentiment_loss(out.sentiment_logits, batch.sentiment, user),
            "satisfaction": satisfaction_loss(out.satisfaction, batch.satisfaction, batch.mask),
        }
        weights = {"handoff": 1.0, "sentiment": config.sentiment_weight, "satisfaction": config.satisfaction_weight}
        if config.mode == "causal":
            parts["cost"] = self._cost_loss(out, batch)
            weights["cost"] = 1.0 if self.stage == 1 else config.cost_weight
        out.losses = parts
        out.loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()

    def _cost_loss(self, out: HandoffOutput, batch: Batch) -> Tensor:
        """Stage 1: the simulator's error on the actions taken. Stage 2: the expected cost under the simulator.

        Where the log holds no action, one is drawn from the handoff probability and costs what the matrix says.
        """
        if self.stage == 2:
            return (out.probs * out.cost.detach()).sum(-1)[batch.mask].mean()
        config = self.config
        known = batch.handoff >= 0
        action = propensity = cost = torch.zeros(0)
        predicted = out.cost[:0, 0]
        if batch.action is not None and batch.propensity is not None and batch.cost is not None:
            logged = (batch.action >= 0) & ~batch.propensity.isnan() & ~batch.cost.isnan()
            known = known & ~logged
            action, propensity, cost = batch.action[logged], batch.propensity[logged], batch.cost[logged]
            predicted = out.cost[logged]
        behaviour = out.probs[known][:, 1].detach().nan_to_num(0.5).clamp(config.explore, 1 - config.explore)
        drawn = (torch.rand_like(behaviour) < behaviour).long()
        seen = self.cost.potential(batch.handoff[known]).to(behaviour).gather(1, drawn.unsqueeze(1)).squeeze(1)
        return inverse_propensity_loss(
            torch.cat([predicted, out.cost[known]]),
            torch.cat([action.to(drawn), drawn]),
            torch.cat([propensity.to(behaviour), torch.where(drawn == 1, behaviour, 1 - behaviour)]),
            torch.cat([cost.to(behaviour), seen]),
            max_weight=config.max_weight,
        )
