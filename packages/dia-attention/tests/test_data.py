import pytest
import torch

pytest.importorskip("sklearn", reason="the digits need the extra demo")

from dia_attention._digits import digits, digits_test
from dia_attention._splits import Split, _shift, batches


def rows(split):
    return {(int(label), image.numpy().tobytes()) for image, label in zip(split.images, split.labels, strict=True)}


def test_values_are_the_grey_levels_of_scikit_learn():
    from sklearn.datasets import load_digits

    raw = {
        (int(label), pixels.tobytes()) for pixels, label in zip(load_digits().images, load_digits().target, strict=True)
    }
    split = digits(seed=0).train
    back = ((split.images.double() + 1) * 8)[:, 0]
    assert {(int(label), image.numpy().tobytes()) for image, label in zip(back, split.labels, strict=True)} <= raw
    assert (split.images.min(), split.images.max()) == (-1, 1)


@pytest.mark.parametrize("seed", [0, 1, 77])
def test_splits_are_stratified_disjoint_and_whole(seed):
    data, test = digits(seed=seed), digits_test()
    assert data.validation.labels.bincount().tolist() == [30] * 10
    assert test.labels.bincount().tolist() == [50] * 10
    assert not rows(data.train) & rows(data.validation)
    assert not (rows(data.train) | rows(data.validation)) & rows(test)
    assert len(data.train) + len(data.validation) + len(test) == 1797


def test_seed_changes_training_and_validation_but_never_the_test_split():
    assert torch.equal(digits_test().images, digits_test().images)
    assert not torch.equal(digits(seed=0).validation.images, digits(seed=1).validation.images)
    assert torch.equal(digits(seed=3).train.images, digits(seed=3).train.images)


def test_reduced_sets_are_nested():
    small, large = digits(seed=5, per_class=4), digits(seed=5, per_class=9)
    assert small.train.labels.bincount().tolist() == [4] * 10
    assert rows(small.train) < rows(large.train) < rows(digits(seed=5).train)
    assert rows(small.validation) == rows(large.validation)


@pytest.mark.parametrize("per_class", [0, -1, 95])
def test_impossible_size_says_what_is_possible(per_class):
    with pytest.raises(ValueError, match="give 1 to 94"):
        digits(seed=0, per_class=per_class)


def numbered(count):
    images = torch.arange(count, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return Split(images=images, labels=torch.arange(count))


def test_an_epoch_holds_every_image_once_with_its_label():
    found = list(batches(numbered(23), 5, seed=1, epoch=2))
    assert [len(labels) for _, labels in found] == [5, 5, 5, 5, 3]
    assert torch.cat([labels for _, labels in found]).sort().values.tolist() == list(range(23))
    assert all(torch.equal(images[:, 0, 0, 0].long(), labels) for images, labels in found)


def test_order_depends_on_seed_and_epoch_alone_and_can_be_entered_anywhere():
    split = digits(seed=0, per_class=5).train

    def labels(**options):
        return [(x.sum().item(), y.tolist()) for x, y in batches(split, 8, augment=True, **options)]

    whole = labels(seed=1, epoch=3)
    torch.manual_seed(99)  # the global generator has no say
    assert labels(seed=1, epoch=3, start=2) == whole[2:]
    assert labels(seed=1, epoch=4) != whole
    assert labels(seed=2, epoch=3) != whole


def test_uint8_images_are_mapped_and_only_mirrored_where_allowed():
    images = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    images[:, :, :, :4] = 255
    for mirror in (False, True):
        split = Split(images=images, labels=torch.zeros(40, dtype=torch.int64), mirror=mirror)
        (plain, _), *_ = batches(split, 40, seed=0, epoch=0)
        assert (plain[:, 0, 0, 0].unique().tolist(), plain.dtype) == ([1.0], torch.float32)
        (augmented, _), *_ = batches(split, 40, seed=0, epoch=0, augment=True)
        brighter_left = augmented[..., :4].sum((1, 2, 3)) > augmented[..., 4:].sum((1, 2, 3))
        assert 8 < brighter_left.sum() < 32 if mirror else brighter_left.all()


def test_fingerprint_sees_images_labels_and_mirroring():
    split = numbered(5)
    others = [
        Split(images=split.images + 1, labels=split.labels),
        Split(images=split.images, labels=split.labels.flip(0)),
        Split(images=split.images, labels=split.labels, mirror=True),
    ]
    assert len({one.fingerprint() for one in (split, *others)}) == 4
    assert numbered(5).fingerprint() == split.fingerprint()


def test_shift_moves_each_image_by_its_own_offset_and_fills_with_paper():
    images = torch.full((9, 1, 8, 8), -1.0)
    images[:, 0, 3, 4] = 1
    shifts = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    shifted = _shift(images, shifts, 1)
    for image, (down, right) in zip(shifted, shifts.tolist(), strict=True):
        assert (image == 1).nonzero().tolist() == [[0, 4 - down, 5 - right]]
        assert (image == -1).sum() == 63
