"""Figures of evaluations: accuracy against chance, orders against their floor, preference for letters, calibration."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oogiri_go.runs import figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = Mapping[str, Any]


def accuracies(runs: Mapping[str, Data]) -> "Figure | None":
    """Accuracy of each task with its interval, the swapped prompts beside it, and chance as a line; None without."""
    tasks = [
        task for task in ("2T1", "3T1", "4T1", "5T2") if any(task in one.get("tasks", {}) for one in runs.values())
    ]
    if not tasks:
        return None
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(max(5.6, 1.2 + 1.7 * len(tasks)), 4.0))
        axes = fig.subplots()
        width = 0.8 / (2 * len(runs))
        for place, (name, one) in enumerate(runs.items()):
            for half, (kind, label) in enumerate((("tasks", name), ("control", f"{name}, other prompt"))):
                shown = [(at, one.get(kind, {})[task]) for at, task in enumerate(tasks) if task in one.get(kind, {})]
                if not shown:
                    continue
                x = [at - 0.4 + (2 * place + half + 0.5) * width for at, _ in shown]
                y = [found["accuracy"] for _, found in shown]
                error = [
                    [found["accuracy"] - found["interval"][0] for _, found in shown],
                    [found["interval"][1] - found["accuracy"] for _, found in shown],
                ]
                axes.bar(x, y, width * 0.92, label=label, color=f"C{place}", alpha=1.0 if half == 0 else 0.35)
                axes.errorbar(x, y, error, fmt="none", ecolor="0.2", elinewidth=1, capsize=2)
        for at, task in enumerate(tasks):
            chance = next(one["tasks"][task]["chance"] for one in runs.values() if task in one.get("tasks", {}))
            axes.plot([at - 0.45, at + 0.45], [chance, chance], color="black", linestyle="--", linewidth=1.2)
        axes.plot([], [], color="black", linestyle="--", linewidth=1.2, label="chance")
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set_ylim(0, 1)
        axes.set_ylabel("accuracy (exact set)")
        axes.set_title("Choices, with 95 % intervals", loc="left")
        axes.legend(loc="upper right", fontsize=9)
        return fig


def cells(name: str, data: Data) -> "Figure | None":
    """Accuracy of each task, game and language as dots with intervals, chance as a tick; None without several."""
    found = [(cell, one) for cell, one in data.get("cells", {}).items() if "accuracy" in one]
    if len(found) < 2:
        return None
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(6.4, 1.2 + 0.32 * len(found)))
        axes = fig.subplots()
        for at, (_, one) in enumerate(found):
            low, high = one["interval"]
            axes.plot([low, high], [at, at], color="C0", linewidth=1.5)
            axes.plot([one["accuracy"]], [at], "o", color="C0", markersize=6)
            axes.plot([one["chance"]] * 2, [at - 0.35, at + 0.35], color="black", linewidth=1.5)
        axes.set_yticks(range(len(found)), [f"{cell.replace('/', ' ')}  (n={one['questions']})" for cell, one in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("accuracy; the black tick is chance")
        axes.set_title(f"{name}: by task, game and language", loc="left")
        return fig


def orders(runs: Mapping[str, Data]) -> "Figure | None":
    """NDCG beside its floor, and what is left above the floor; None without an order."""
    found = {name: one["tasks"]["rank"] for name, one in runs.items() if "rank" in one.get("tasks", {})}
    if not found:
        return None
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(8.0, 1.6 + 0.45 * len(found)))
        left, right = fig.subplots(1, 2)
        for at, one in enumerate(found.values()):
            left.plot([one["random_ndcg"]], [at], "|", color="black", markersize=16, markeredgewidth=2)
            for axes, key, interval in (
                (left, "ndcg", "ndcg_interval"),
                (right, "normalised_ndcg", "normalised_interval"),
            ):
                if one[interval] is not None:
                    axes.plot(one[interval], [at, at], color="C0", linewidth=1.5)
                axes.plot([one[key]], [at], "o", color="C0", markersize=7)
        right.axvline(0, color="black", linewidth=1.2)
        for axes in (left, right):
            axes.set_yticks(range(len(found)), list(found))
            axes.set_ylim(len(found) - 0.5, -0.5)
        right.tick_params(labelleft=False)
        left.set_xlim(0, 1)
        left.set_xlabel("NDCG; the tick is a random order")
        right.set_xlabel("normalised: 0 random, 1 best")
        left.set_title("Orders", loc="left")
        return fig


def letters(name: str, data: Data) -> "Figure | None":
    """How often each letter was chosen, in the given order and after averaging over orders; None without."""
    places = data.get("places") or {}
    if not places.get("given"):
        return None
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(6.0, 3.6))
        axes = fig.subplots()
        names = sorted(set(places["given"]) | set(places["averaged"]))
        right: dict[str, int] = {}
        for row in data.get("rows", ()):
            for at in row.get("answer", ()):
                letter = chr(ord("A") + at)
                right[letter] = right.get(letter, 0) + 1
        series = (
            ("one order", places["given"], "C1"),
            ("all orders averaged", places["averaged"], "C0"),
            ("right", right, "0.6"),
        )
        for at, (label, counts, colour) in enumerate(series):
            total = max(1, sum(counts.values()))
            x = [place + (at - 1) * 0.27 for place in range(len(names))]
            axes.bar(x, [counts.get(letter, 0) / total for letter in names], 0.25, label=label, color=colour)
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel("share of choices")
        axes.set_title(f"{name}: preference for letters", loc="left")
        axes.legend(fontsize=9)
        return fig


def reliability(name: str, data: Data) -> "Figure | None":
    """Probability of the chosen option against how often it was right; None where scores are no probabilities."""
    if data.get("scorer") != "letter":
        return None
    rows = (row for row in data.get("rows", ()) if len(row.get("answer", ())) == 1 and row["scores"] is not None)
    points = [(max(row["scores"]), bool(row["right"])) for row in rows]
    if len(points) < 20:
        return None
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(4.8, 4.4))
        axes = fig.subplots()
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1.2)
        points.sort()
        count = min(10, len(points) // 10)
        for at in range(count):
            some = points[at * len(points) // count : (at + 1) * len(points) // count]
            mean = sum(p for p, _ in some) / len(some)
            share = sum(hit for _, hit in some) / len(some)
            axes.plot([mean], [share], "o", color="C0", markersize=7)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("mean probability of the chosen option")
        axes.set_ylabel("share of right choices")
        axes.set_title(f"{name}: reliability", loc="left")
        return fig


def distances(name: str, data: Data) -> "Figure | None":
    """Histogram of the mean distances of completed word lists, beside those that all offered words would give."""
    if not data.get("chosen"):
        return None
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(6.0, 3.8))
        axes = fig.subplots()
        offered = [one for row in data["offered"] for one in row]
        low, high = min(offered), max(offered)
        bins = [low + at * (high - low) / 16 for at in range(17)]
        axes.hist(offered, bins, density=True, color="0.75", label="any of the four")
        axes.hist(data["chosen"], bins, density=True, histtype="step", color="C0", linewidth=2, label="chosen")
        axes.axvline(data["random"], color="0.4", linestyle="--", linewidth=1.2)
        axes.axvline(data["asd"], color="C0", linestyle="--", linewidth=1.2)
        axes.set_xlabel("mean semantic distance of ten words (means dashed)")
        axes.set_ylabel("density")
        axes.set_title(f"{name}: divergent association, {data['items']} lists", loc="left")
        axes.legend(fontsize=9)
        return fig
