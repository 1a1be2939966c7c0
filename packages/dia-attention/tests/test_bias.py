import math

import pytest
import torch
from dia_attention import cifar_resnet
from dia_attention._composites import paste
from dia_attention._splits import Split
from dia_attention.metrics import Bias, attention_bias, grad_cam
from hypothesis import given
from hypothesis import strategies as st
from torch import nn


def pictures(count=4, side=20):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return Split(images=images, labels=torch.zeros(count, dtype=torch.int64), mirror=True)


def inked(count=6):
    """Digits of eight by eight pixels: a filled square of four by four."""
    images = torch.full((count, 1, 8, 8), -1.0)
    images[:, :, 2:6, 2:6] = 1
    return Split(images=images, labels=torch.arange(count))


def test_a_perfect_map_has_no_bias_and_a_blind_one_has_all():
    """On composites the evidence is known: the mask itself, its complement, the whole image."""
    _, masks = paste(inked(), pictures(), seed=0, order="test", size=16)
    assert attention_bias(masks.float(), masks) == Bias(0.0, 0.0, 0.0, 1.0)
    assert attention_bias((~masks).float(), masks) == Bias(1.0, 0.0, 1.0, 0.0)
    everywhere = attention_bias(torch.ones(len(masks), 16, 16), masks)
    assert (everywhere.position, everywhere.range) == (0.0, 1.0)
    assert everywhere.leakage == pytest.approx(1 - 16 / 256)
    assert attention_bias(torch.zeros(len(masks), 16, 16), masks).position == 1.0


def test_tolerance_forgives_a_small_excess():
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, :, :4] = True
    cam = mask.float()
    cam[0, 0, 4] = 1  # 1 of 17 attended pixels is outside
    assert attention_bias(cam, mask).range == 1
    assert attention_bias(cam, mask, tolerance=0.05).range == 1
    assert attention_bias(cam, mask, tolerance=0.06).range == 0
    cam[0, 0, 4] = 0.4
    assert attention_bias(cam, mask).range == 0
    assert attention_bias(cam, mask, threshold=0.3).range == 1


@given(st.integers(0, 999), st.floats(0.05, 1.0), st.floats(0.0, 0.9))
def test_rates_are_those_of_counting_pixels(seed, threshold, tolerance):
    generator = torch.Generator().manual_seed(seed)
    cams = torch.rand(3, 3, 4, generator=generator).double() ** 3
    masks = torch.rand(3, 3, 4, generator=generator) < 0.4
    masks[:, 0, 0] = True
    position = reach = leak = point = 0
    for cam, mask in zip(cams.tolist(), masks.tolist(), strict=True):
        pixels = [
            (value, inside)
            for row, line in zip(cam, mask, strict=True)
            for value, inside in zip(row, line, strict=True)
        ]
        top = max(value for value, _ in pixels)
        attended = [inside for value, inside in pixels if value >= threshold * top]
        position += not any(attended)
        reach += any(attended) and attended.count(False) / len(attended) > tolerance
        leak += sum(value for value, inside in pixels if not inside) / sum(value for value, _ in pixels)
        point += max(pixels)[1]
    found = attention_bias(cams, masks, threshold=threshold, tolerance=tolerance)
    expected = (position / 3, reach / 3, leak / 3, point / 3)
    assert (found.position, found.range, found.leakage, found.pointing) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cam": torch.ones(2, 3)}, "one shape"),
        ({"mask": torch.ones(1, 3, 3)}, "bool"),
        ({"mask": torch.zeros(1, 3, 3, dtype=torch.bool)}, "mask 0 is empty"),
        ({"cam": -torch.ones(1, 3, 3)}, "negative"),
        ({"cam": torch.full((1, 3, 3), math.nan)}, "not finite"),
        ({"threshold": 0.0}, "threshold"),
        ({"tolerance": 1.0}, "tolerance"),
    ],
)
def test_bad_maps_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        attention_bias(**({"cam": torch.ones(1, 3, 3), "mask": torch.ones(1, 3, 3, dtype=torch.bool)} | change))


def test_pasted_pixels_are_the_digits_and_the_mask_is_exact():
    source, backgrounds = inked(), pictures()
    images, masks = paste(source, backgrounds, seed=3, order="train", size=14)
    assert masks.sum((1, 2)).tolist() == [16] * len(source)
    assert (images.images[masks[:, None].expand(-1, 3, -1, -1)].abs() == 1).all()
    outside = images.images[~masks[:, None].expand(-1, 3, -1, -1)]
    assert (outside.abs() <= 0.5).all()
    assert torch.equal(images.labels, source.labels)
    again, _ = paste(source, backgrounds, seed=3, order="train", size=14)
    other, _ = paste(source, backgrounds, seed=3, order="validation", size=14)
    assert torch.equal(again.images, images.images)
    assert not torch.equal(other.images, images.images)
    with pytest.raises(ValueError, match="10 to 20"):
        paste(source, backgrounds, seed=0, order="test", size=9)


class Spots(nn.Module):
    """Two channels pass through; class k is the mean of channel k: its Grad-CAM is the channel itself."""

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()

    def forward(self, x):
        return self.features(x).mean((2, 3))


def test_grad_cam_of_a_known_network_is_the_formula():
    x = torch.rand(2, 2, 6, 6)
    net = Spots().eval()
    maps = grad_cam(net, x, torch.tensor([0, 1]), layer=net.features)
    expected = torch.stack([x[0, 0], x[1, 1]])
    torch.testing.assert_close(maps, expected / expected.amax((1, 2), keepdim=True))


def test_grad_cam_does_not_mix_images_nor_leave_gradients():
    net = cifar_resnet(20, attention="dia").eval()
    x = torch.randn(3, 3, 16, 16)
    whole = grad_cam(net, x)
    assert whole.shape == (3, 16, 16)
    assert (whole.amax((1, 2)) <= 1).all()
    torch.testing.assert_close(torch.cat([grad_cam(net, one) for one in x.split(1)]), whole, rtol=1e-3, atol=1e-4)
    assert all(parameter.grad is None for parameter in net.parameters())
    with torch.no_grad():
        torch.testing.assert_close(grad_cam(net.requires_grad_(False), x), whole)
    with pytest.raises(ValueError, match="eval"):
        grad_cam(net.train(), x)
    with pytest.raises(ValueError, match="layer="):
        grad_cam(Spots().eval(), x)


@pytest.mark.parametrize("background", ["pictures", "cifar10"])
def test_a_detector_of_the_digit_has_less_bias_than_one_of_the_background(background, request):
    """On composites, also on CIFAR-10: a map of where the ink is against a map of where it is not."""
    if background == "cifar10":
        from dia_attention._cifar10 import read_cifar10

        pytest.importorskip("PIL", reason="JPEG files need the extra demo")
        path = request.getfixturevalue("sail_data")("cifar10")
        cache = request.getfixturevalue("tmp_path_factory").getbasetemp() / "cifar10"  # as test_sources
        backgrounds = read_cifar10(path, cache=cache)["test"]
    else:
        backgrounds = pictures()
    images, masks = paste(inked(60), backgrounds, seed=1, order="test", size=16)
    ink = (images.images.abs() > 0.9).all(1).float()
    rest = (images.images.abs() < 0.4).all(1).float()
    seeing, blind = attention_bias(ink, masks), attention_bias(rest + 1e-3, masks)
    assert seeing == Bias(0.0, 0.0, 0.0, 1.0)
    assert blind.position == 1
    assert blind.leakage > 0.95
