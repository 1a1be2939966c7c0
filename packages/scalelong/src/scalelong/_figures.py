"""The figures of a comparison."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from sail_core.report import figure_style
from torch import Tensor

from ._experiment import Job, Measured
from ._sample import picture_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stability(runs: Sequence[tuple[Job, Measured]]) -> "Figure":
    """Draw the probe loss and the gradient norm over the steps, a column a learning rate: median and range of seeds."""
    with figure_style():
        from matplotlib.figure import Figure

        rates = sorted({job.config.learning_rate for job, _ in runs})
        figure = Figure(figsize=(4.4 * len(rates) + 1.2, 6.0))
        axes = figure.subplots(2, len(rates), squeeze=False, sharex=True, sharey="row")
        for column, rate in enumerate(rates):
            for index, arm in enumerate(dict.fromkeys(job.arm for job, _ in runs)):
                chosen = [result for job, result in runs if job.arm == arm and job.config.learning_rate == rate]
                color, style = f"C{index % 8}", "-" if index < 4 else "--"
                _band(axes[0, column], [result.probe for result in chosen], arm, color, style)
                norms = [list(enumerate(result.gradient_norms, start=1)) for result in chosen]
                _band(axes[1, column], [_smoothed(one) for one in norms], arm, color, style)
            axes[0, column].set(yscale="log", title=f"learning rate {rate:g}")
            axes[1, column].set(yscale="log", xlabel="step")
        axes[0, 0].set_ylabel("loss on the fixed probe")
        axes[1, 0].set_ylabel("gradient norm, largest of 10 steps")
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3 if len(rates) < 3 else 4
        )
        return figure


def _smoothed(series: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The largest of every ten steps: spikes stay visible."""
    return [
        (series[first][0], max(norm for _, norm in series[first : first + 10])) for first in range(0, len(series), 10)
    ]


def _band(axes: Any, series: Sequence[Sequence[tuple[int, float]]], label: str, color: str, style: str) -> None:
    length = min((len(one) for one in series), default=0)
    if not length:
        return
    values = torch.tensor([[value for _, value in one[:length]] for one in series])
    steps = [step for step, _ in series[0][:length]]
    axes.plot(steps, values.median(0).values.numpy(), style, color=color, label=label)
    axes.fill_between(
        steps, values.min(0).values.numpy(), values.max(0).values.numpy(), color=color, alpha=0.15, linewidth=0
    )


def stable_rates(table: Mapping[str, Any]) -> "Figure":
    """Draw every final loss over the learning rate, a panel a group; a run that broke or is unstable is hollow."""
    with figure_style():
        from matplotlib.figure import Figure

        groups = {name: arms for name, arms in table.items() if max(len(rates) for rates in arms.values()) > 1}
        figure = Figure(figsize=(max(7.5, 4.2 * len(groups) + 0.8), 5.0))
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        names = list(dict.fromkeys(arm for arms in groups.values() for arm in arms))
        for axes, (group, arms) in zip(panels, groups.items(), strict=True):
            for arm, rates in arms.items():
                index = names.index(arm)
                shift = 1.045 ** (index - (len(names) - 1) / 2)
                for rate, cell in rates.items():
                    for final, stable in zip(cell["final loss"], cell["stable"], strict=True):
                        axes.plot(
                            float(rate.removeprefix("lr ")) * shift,
                            1.2 if final is None else min(final, 1.2),
                            "o" if index < 4 else "s",
                            color=f"C{index % 8}",
                            markerfacecolor=f"C{index % 8}" if stable else "white",
                            markersize=5,
                        )
            axes.set(xscale="log", yscale="log", title=group, xlabel="learning rate")
            rates = sorted({float(rate.removeprefix("lr ")) for rates in arms.values() for rate in rates})
            axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
            axes.set_xticks([], minor=True)
        for index, arm in enumerate(names):
            panels[0].plot([], [], "o" if index < 4 else "s", color=f"C{index % 8}", label=arm)
        panels[0].set_ylabel("final loss (1.2: higher or not finite)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
        return figure


def samples(real: Tensor, drawn: Mapping[str, Tensor], *, columns: int = 8, rows: int = 5) -> "Figure":
    """Draw a block of real pictures beside a block of each arm's."""
    with figure_style():
        from matplotlib.figure import Figure

        blocks = {"real": real} | dict(drawn)
        figure = Figure(figsize=(2.6 * len(blocks), 2.1))
        for axes, (name, pixels) in zip(figure.subplots(1, len(blocks), squeeze=False)[0], blocks.items(), strict=True):
            grid = picture_grid(pixels[: columns * rows], columns=columns)
            shown = grid[0] if len(grid) == 1 else grid.permute(1, 2, 0) / 2 + 0.5
            axes.imshow(shown.numpy(), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
            axes.set_title(name)
            axes.axis("off")
        return figure


def quality(found: Mapping[str, Mapping[str, Sequence[float]]]) -> "Figure":
    """Draw the Frechet distance of every seed of each arm over the floor between real halves."""
    with figure_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1.3 * len(found) + 3.2, 3.6))
        axes = figure.subplots()
        floor, spread = next((one["floor"][0], one["floor_spread"][0]) for one in found.values())
        axes.axhspan(floor - spread, floor + spread, color="0.8", label="two halves of the real pictures, +- 1 sd")
        for index, one in enumerate(found.values()):
            axes.plot([index] * len(one["frechet"]), one["frechet"], "o", color=f"C{index}")
        axes.set_xticks(range(len(found)), list(found))
        axes.set(xlim=(-0.6, len(found) - 0.4), ylim=(0, None), ylabel="Frechet distance, own features")
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.15))
        return figure
