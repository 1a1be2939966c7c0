"""One dialogue along its turns: what a scorer says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sail_core.extras import needs
from sail_core.report import figure_style

from cem_mhch.streaming import Decision, StreamingScorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cem_mhch._types import Dialogue

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"


@dataclass(frozen=True)
class Timeline:
    """A dialogue and the decision after each of its turns.

    Attributes:
        dialogue: The dialogue; its labels, where it has some, are drawn as marks.
        decisions: One a turn.
        threshold: Of the scorer.
    """

    dialogue: Dialogue
    decisions: Sequence[Decision]
    threshold: float


def timeline(scorer: StreamingScorer, dialogue: Dialogue) -> Timeline:
    """Push all turns of a dialogue; the scorer forgets what it held before.

    Args:
        scorer: The scorer.
        dialogue: A dialogue of users and bots.
    """
    scorer.reset()
    decisions = [scorer.push(turn.role, _content(turn.text, turn.tokens)) for turn in dialogue.turns]
    return Timeline(dialogue, decisions, scorer.threshold)


def draw_timeline(found: Timeline) -> Figure:
    """Probability with threshold, gold and predicted handoffs, the user's negative state, and the expected cost.

    Args:
        found: See `timeline`.

    Raises:
        MissingExtra: matplotlib is not installed (extra `demo`).
    """
    with needs("cem-mhch", "demo"):
        from matplotlib.figure import Figure
    with figure_style():
        turns = list(range(1, len(found.decisions) + 1))
        figure = Figure(figsize=(max(6.4, min(14.0, 0.42 * len(turns) + 3)), 5.4))
        top, lanes, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 0.8, 1.2))
        top.plot(turns, [one.prob for one in found.decisions], "o-", color=BLUE, markersize=4, label="P(handoff)")
        negative = [one.user_state[0] for one in found.decisions]
        top.plot(turns, negative, ":", color=RED, linewidth=1.5, label="P(user negative)")
        top.axhline(found.threshold, color=GREY, linewidth=1, linestyle="--", label="threshold")
        said = [turn for turn, one in zip(turns, found.decisions, strict=True) if one.handoff]
        gold = [turn for turn, one in zip(turns, found.dialogue.turns, strict=True) if one.handoff]
        top.plot(said, [1.06] * len(said), "v", color=BLUE, markersize=8, label="handed over")
        top.plot(gold, [1.14] * len(gold), "*", color=ORANGE, markersize=9, label="gold")
        top.set(ylim=(0, 1.2), ylabel="probability", yticks=[0, 0.25, 0.5, 0.75, 1])
        top.set_title(f"Dialogue {found.dialogue.id[:40]}", loc="left", pad=14)
        figure.legend(*top.get_legend_handles_labels(), ncols=3, loc="outside lower center", fontsize=9)
        for lane, role in enumerate(("bot", "user")):
            own = [turn for turn, one in zip(turns, found.dialogue.turns, strict=True) if one.role == role]
            lanes.plot(own, [lane] * len(own), "s", color=(GREEN, RED)[lane], markersize=7)
        lanes.set(yticks=[0, 1], yticklabels=["bot", "user"], ylim=(-0.6, 1.6))
        bottom.plot(turns, [one.expected_cost for one in found.decisions], color=ORANGE, drawstyle="steps-mid")
        bottom.set(xlabel="turn", ylabel="expected\ncost", xlim=(0.5, len(turns) + 0.5))
        bottom.xaxis.get_major_locator().set_params(integer=True)
        return figure


def _content(text: str | None, tokens: tuple[int, ...] | None) -> str | tuple[int, ...]:
    """Ids go before the text, as in a batch."""
    return tokens if tokens is not None else text or ""
