"""Figures of self-refinement: the funnel, the use of conditions, the diversity of what was kept."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oogiri_go.runs import figure_style

from ._funnel import STEPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Summary = Mapping[str, Any]


def funnel(rounds: Sequence[Summary]) -> "Figure":
    """Bars of how many candidates get how far, and why the others do not, a pair of panels for each round."""
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(9.6, 3.2 * len(rounds)))
        panels = fig.subplots(len(rounds), 2, squeeze=False, gridspec_kw={"width_ratios": (1, 1)})
        for (left, right), one in zip(panels, rounds, strict=True):
            counts = [one["steps"][step] for step in STEPS]
            _bars(left, STEPS, counts, "C0", sum(counts[:1]))
            left.set_title(f"Round {one['round']}: how far candidates get", loc="left")
            reasons = dict(list(one["dropped"].items())[:8])
            _bars(right, list(reasons), list(reasons.values()), "C3", counts[0])
            right.set_title("why the others are dropped", loc="left")
        return fig


def _bars(axes: Any, names: Sequence[str], counts: Sequence[int], color: str, total: int) -> None:
    for at, count in enumerate(counts):
        axes.barh(at, count, color=color, height=0.65)
        share = f"{count}" if not total else f"{count}  ({100 * count / total:.0f} %)"
        axes.annotate(share, (count, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.28 * max([*counts, 1]))
    axes.set_xlabel("candidates")
    axes.grid(axis="y", visible=False)


def rounds(summaries: Sequence[Summary]) -> "Figure":
    """By round: use of conditions, diversity of what was kept, discrimination on held-out prompts with its interval."""
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(9.6, 3.2))
        use, kinds, held = fig.subplots(1, 3)
        numbers = [one["round"] for one in summaries]
        shares = [one["conditions used"] / max(one["conditions asked"], 1) for one in summaries]
        use.bar(numbers, shares, color="C0", width=0.5)
        use.set_title("conditions that are used", loc="left")
        kinds.plot(numbers, [one["diversity"]["distinct_2"] for one in summaries], "o-", label="distinct pairs")
        kinds.plot(numbers, [one["diversity"]["overlap"] for one in summaries], "s--", label="overlap of neighbours")
        kinds.set_title("diversity of what is kept", loc="left")
        kinds.legend(loc="center left")
        for one in summaries:
            found = one["discrimination"]
            low, high = found["interval"]
            error = [[found["accuracy"] - low], [high - found["accuracy"]]]
            held.errorbar(one["round"], found["accuracy"], yerr=error, fmt="o", color="C2", capsize=4)
            held.axhline(found["chance"], color="0.4", linestyle=":", linewidth=1.2)
        held.annotate("chance", (0.98, 1 / 3), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9)
        held.set_title("held-out 3T1 before the round", loc="left")
        for axes in (use, kinds, held):
            axes.set_ylim(0, 1.05)
            axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
            axes.set_xticks(numbers)
            axes.set_xlabel("round")
            axes.title.set_fontsize(11)
        return fig


def losses(kinds: Mapping[str, Sequence[tuple[int, float]]]) -> "Figure":
    """Training loss by kind of instruction over steps."""
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(6.4, 3.6))
        axes = fig.subplots()
        styles = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
        for (name, points), style in zip(kinds.items(), styles, strict=False):
            axes.plot(*zip(*points, strict=True), linestyle=style, label=name)
        axes.set_xlabel("step")
        axes.set_ylabel("loss per target token")
        axes.set_title("Loss by kind of instruction", loc="left")
        axes.set_ylim(bottom=0)
        axes.legend(ncols=2)
        return fig


def stages(seeds: Sequence[Mapping[str, Mapping[str, Any]]]) -> "Figure":
    """Content 3T1 of each stage, a line for each seed, with pictures swapped beside it, and chance."""
    with figure_style():
        from matplotlib.figure import Figure

        names = list(seeds[0])
        fig = Figure(figsize=(6.8, 4.0))
        axes = fig.subplots()
        for at, one in enumerate(seeds):
            places = [place + 0.06 * (at - (len(seeds) - 1) / 2) for place in range(len(names))]
            found = [one[name]["tasks"]["3T1"] for name in names]
            swapped = [one[name]["control"]["3T1"]["accuracy"] for name in names]
            values = [each["accuracy"] for each in found]
            low = [each["accuracy"] - each["interval"][0] for each in found]
            high = [each["interval"][1] - each["accuracy"] for each in found]
            label = ("the right picture", "another picture") if at == 0 else (None, None)
            axes.errorbar(places, values, yerr=[low, high], fmt="o-", color="C0", capsize=3, label=label[0])
            axes.plot(places, swapped, "s:", color="C1", label=label[1])
        chance = found[0]["chance"]
        axes.axhline(chance, color="0.4", linewidth=1.2, linestyle="--")
        axes.annotate("chance", (len(names) - 0.6, chance), va="bottom", ha="right", fontsize=10)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.4, len(names) - 0.55)
        axes.set_ylim(-0.03, 1.05)
        axes.set_ylabel("accuracy")
        title = "The joke among a description and another's joke (3T1)"
        axes.set_title(f"{title}, {len(seeds)} seed{'s' * (len(seeds) > 1)}", loc="left", fontsize=11)
        axes.legend(loc="upper left")
        return fig
