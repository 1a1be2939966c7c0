import numpy as np
import pytest
import torch
from scalelong._data import load_images
from scalelong._evaluate import frechet_distance, kernel_distance, precision_recall, quality, train_classifier
from scalelong._sample import picture_grid


def gaussian(rows, columns, seed):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_is_the_matrix_square_root_formula():
    from scipy.linalg import sqrtm

    a, b = gaussian(50, 6, 0) @ gaussian(6, 6, 1), gaussian(70, 6, 2) + 1
    mu, s1, s2 = (a.mean(0) - b.mean(0)).numpy(), np.cov(a.T), np.cov(b.T)
    expected = mu @ mu + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


def test_kernel_distance_is_the_double_sum():
    a, b = gaussian(7, 3, 0), gaussian(5, 3, 1) + 0.5

    def k(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    def within(s):
        pairs = [k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]
        return sum(pairs) / len(pairs)

    across = sum(k(x, y) for x in a for y in b) / 35
    assert kernel_distance(a, b) == pytest.approx(within(a) + within(b) - 2 * across, rel=1e-10)


def test_kernel_distance_is_unbiased():
    values = torch.tensor([kernel_distance(gaussian(20, 4, s), gaussian(20, 4, 1000 + s)) for s in range(200)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 200**0.5
    assert (values < 0).any()


def test_precision_and_recall_against_a_loop():
    real, drawn = gaussian(30, 2, 0), gaussian(20, 2, 1) * 1.5
    for k in (1, 3):
        radius = {
            name: [sorted(float((x - y).norm()) for y in points)[k] for x in points]
            for name, points in {"real": real, "drawn": drawn}.items()
        }
        inside = [any(float((x - y).norm()) <= r for y, r in zip(real, radius["real"], strict=True)) for x in drawn]
        covered = [any(float((x - y).norm()) <= r for y, r in zip(drawn, radius["drawn"], strict=True)) for x in real]
        assert precision_recall(real, drawn, k=k) == pytest.approx((np.mean(inside), np.mean(covered)))


@pytest.mark.parametrize("bad", [torch.zeros(1, 3), torch.zeros(4), torch.full((4, 2), float("nan"))])
def test_bad_features_are_refused(bad):
    with pytest.raises(ValueError, match=r"features|finite"):
        frechet_distance(bad, torch.zeros(4, 2))


def test_a_k_beyond_the_sample_is_refused():
    with pytest.raises(ValueError, match="k is 4"):
        precision_recall(gaussian(4, 2, 0), gaussian(9, 2, 1), k=4)


def test_real_pictures_stand_at_the_floor_and_noise_far_above():
    train, test = load_images("digits"), load_images("digits", split="test")
    classifier = train_classifier(train, steps=60)
    with torch.no_grad():
        accuracy = (classifier(test.pixels).argmax(1) == test.labels).float().mean()
    assert accuracy > 0.8
    good = quality(classifier, test.pixels, train.pixels[:200])
    bad = quality(classifier, test.pixels, torch.randn(200, 1, 8, 8).clamp(-1, 1))
    assert good.frechet < good.floor + 6 * good.floor_spread
    assert bad.frechet > 3 * good.floor
    assert bad.precision < 0.5 < good.precision
    with pytest.raises(ValueError, match="too few"):
        quality(classifier, test.pixels[:4], test.pixels[:4])


def test_a_classifier_needs_classes():
    from scalelong._build import ModelConfig, conditioned

    with pytest.raises(ValueError, match="no classes"):
        train_classifier(conditioned(load_images("digits"), ModelConfig()))


def test_the_grid_holds_every_picture():
    pixels = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)
    assert picture_grid(pixels, columns=2)[0].tolist() == [
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [2, 2, 1, 1, 1],
        [2, 2, 1, 1, 1],
    ]
