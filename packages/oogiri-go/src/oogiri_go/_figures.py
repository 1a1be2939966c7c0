"""The demo's figures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .runs import figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def issues(codes: Mapping[str, int]) -> "Figure":
    """Bars of the issues by kind, lines and pictures apart."""
    with figure_style():
        from matplotlib.figure import Figure

        ordered = sorted(codes.items(), key=lambda item: (_of_picture(item[0]), item[1], item[0]))
        fig = Figure(figsize=(6.4, 0.8 + 0.32 * max(len(ordered), 2)))
        axes = fig.subplots()
        for at, (code, count) in enumerate(ordered):
            axes.barh(at, count, color="C1" if _of_picture(code) else "C0")
            axes.annotate(str(count), (count, at), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(ordered)), [code for code, _ in ordered])
        axes.set_xlabel("issues")
        axes.set_title("What verify found: lines (blue), pictures (orange)", loc="left")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.1)
        return fig


def leakage(shares: Mapping[str, float]) -> "Figure":
    """How many held-out records share their prompt with the training data, by way of splitting."""
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(6.4, 2.2))
        axes = fig.subplots()
        names = {"row": "by row, as in the paper", "group": "by prompt, the default"}
        for at, (by, share) in enumerate(reversed(list(shares.items()))):
            axes.barh(at, 100 * share, color="C3" if by == "row" else "C2", height=0.6)
            axes.annotate(
                f"{100 * share:.0f} %", (100 * share, at), xytext=(4, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(shares)), [names[by] for by in reversed(list(shares))])
        axes.set_xlim(0, 110)
        axes.set_xticks(range(0, 101, 20))
        axes.set_xlabel("validation and test records whose prompt is in train, %")
        axes.grid(axis="y", visible=False)
        return fig


def kinds(counts: Mapping[str, Mapping[str, int]]) -> "Figure":
    """Records by language and game, stacked by split."""
    with figure_style():
        from matplotlib.figure import Figure

        names = sorted({kind for part in counts.values() for kind in part})
        fig = Figure(figsize=(6.4, 3.4))
        axes = fig.subplots()
        bottom = [0] * len(names)
        for split, part in counts.items():
            values = [part.get(kind, 0) for kind in names]
            axes.bar(names, values, bottom=bottom, label=split)
            bottom = [low + value for low, value in zip(bottom, values, strict=True)]
        axes.set_ylabel("rows built")
        axes.grid(axis="x", visible=False)
        axes.legend(ncols=3)
        axes.set_ylim(0, 1.2 * max(bottom, default=1))
        return fig


def stars(counts: Mapping[int, int]) -> "Figure":
    """How many records have at least so many likes, on logarithmic axes."""
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(6.4, 3.4))
        axes = fig.subplots()
        values = sorted(counts)
        rest = sum(counts.values())
        at_least = []
        for value in values:
            at_least.append(rest)
            rest -= counts[value]
        axes.step([value + 1 for value in values], at_least, where="pre")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("1 + likes")
        axes.set_ylabel("records with as many or more")
        return fig


def _of_picture(code: str) -> bool:
    return code.startswith(("image-", "zip-")) and code != "image-id"
