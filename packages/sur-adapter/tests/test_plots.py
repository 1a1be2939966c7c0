"""Figures: what stands in them, and what they refuse."""

import pytest
import torch
from PIL import Image
from sur_adapter import plots


def test_loss_curves_have_an_axis_each():
    figure = plots.loss_curves({"diffusion": [3.0, 2.0, 1.0], "prompt": [1.0]}, window=2)
    assert [axis.get_title() for axis in figure.axes] == ["diffusion", "prompt"]
    smooth = figure.axes[0].lines[1]
    assert list(smooth.get_xdata()) == [1, 2]
    assert list(smooth.get_ydata()) == [2.5, 1.5]
    for curves in ({}, {"loss": []}):
        with pytest.raises(ValueError, match="no loss"):
            plots.loss_curves(curves)


def test_token_drift_names_every_token():
    figure = plots.token_drift([(["a", "cat"], torch.tensor([0.1, 0.4])), (["dog"], [1.0]), (["x"], [0.0])])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a", "cat"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([0.1, 0.4])
    with pytest.raises(ValueError, match="2 tokens and 1 values"):
        plots.token_drift([(["a", "b"], [1.0])])
    with pytest.raises(ValueError, match="no prompt"):
        plots.token_drift([])


def test_accuracy_bars_are_means():
    figure = plots.accuracy_bars({"mention": {"base": [0.1, 0.3], "adapter": [0.5]}}, chance={"mention": 0.1})
    axis = figure.axes[0]
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([20, 50])
    assert next(line for line in axis.lines if line.get_label() == "chance").get_ydata()[0] == pytest.approx(10)
    with pytest.raises(ValueError, match="no accuracy"):
        plots.accuracy_bars({})


def test_picture_grid_takes_tensors_and_images():
    row = [torch.zeros(3, 4, 4), torch.ones(1, 4, 4), Image.new("RGB", (4, 4), "red")]
    figure = plots.picture_grid([("a prompt", row)], ["one", "two", "three"])
    shown = [axis.images[0].get_array() for axis in figure.axes[1:]]
    assert figure.axes[0].texts[0].get_text() == "a prompt"
    assert float(shown[0].mean()) == 0.5
    assert float(shown[1].mean()) == 1.0
    assert shown[2][0, 0].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="rows of 2"):
        plots.picture_grid([("a prompt", row)], ["one", "two"])
