import io

import pytest
import torch
from dia_attention import plots
from dia_attention.metrics import Bias, StiffnessCurve

pytest.importorskip("matplotlib", reason="figures need the extra demo")

GATES = {f"layer{stage}.{block}": torch.rand(20, 16) for stage in (1, 2) for block in (0, 1)}
CURVE = StiffnessCurve("step", ("layer1.0", "layer1.1"), torch.tensor([torch.nan, 0.3]), torch.tensor([0.1, 0.2]))
DRAWN = {
    "stripes": lambda: plots.stripes({"SE": torch.rand(9, 5), "RAS": torch.full((9, 5), 0.2), "own": torch.rand(3, 7)}),
    "correlations": lambda: plots.correlations({"SE": {"layer1": torch.eye(3), "layer2": torch.eye(2)}}),
    "gate_histogram": lambda: plots.gate_histogram({"DIA": GATES, "StepNet": GATES}),
    "stiffness_depth": lambda: plots.stiffness_depth({"plain": [CURVE], "SE": [CURVE]}),
    "gradient_depth": lambda: plots.gradient_depth({"no skip": {"plain": {"a": 1.0, "b": 0.1}}}),
    "cam_overlays": lambda: plots.cam_overlays(
        torch.rand(3, 3, 8, 8), {"SE": torch.rand(3, 8, 8)}, torch.rand(3, 8, 8) > 0.5
    ),
    "bias_bars": lambda: plots.bias_bars({"SE": [Bias(0.1, 0.9, 0.5, 0.7)] * 2, "LSAS": [Bias(0, 1, 0.4, 0.8)] * 2}),
}


def test_every_function_is_drawn_here():
    assert sorted(DRAWN) == sorted(plots.__all__)


@pytest.mark.parametrize("name", DRAWN)
def test_figure_draws_without_a_display_and_its_axes_are_named(name):
    figure = DRAWN[name]()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    assert len(buffer.getvalue()) > 1000
    shown = [axis for axis in figure.axes if axis.get_visible() and (axis.images or axis.lines or axis.patches)]
    assert shown
    if name != "cam_overlays":
        assert any(axis.get_xlabel() for axis in shown)


def test_stripes_show_the_gates_sorted_by_channel_mean():
    gate = torch.tensor([[0.9, 0.1], [0.8, 0.3]])
    (image,) = plots.stripes({"SE": gate}).axes[0].images
    assert image.get_array().tolist() == gate[:, [1, 0]].tolist()


def test_lines_are_the_values():
    axis, *_ = plots.gradient_depth({"one": {"plain": {"a": 1.0, "b": 0.1}, "SE": {"a": 2.0, "b": 3.0}}}).axes
    assert [
        line.get_ydata().tolist() if hasattr(line.get_ydata(), "tolist") else list(line.get_ydata())
        for line in axis.lines
    ] == [
        [1.0, 0.1],
        [2.0, 3.0],
    ]


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "cam_overlays"])
def test_nothing_to_draw_is_refused(name):
    with pytest.raises(ValueError, match="to draw"):
        getattr(plots, name)({})


def test_maps_of_another_size_are_refused():
    with pytest.raises(ValueError, match="SE: maps"):
        plots.cam_overlays(torch.rand(2, 3, 8, 8), {"SE": torch.rand(2, 4, 4)})
    with pytest.raises(ValueError, match="to draw"):
        plots.cam_overlays(torch.rand(2, 3, 8, 8), {})
