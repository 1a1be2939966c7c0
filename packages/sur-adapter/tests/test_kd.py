"""The KD loss against torch's, the authors' call, closed forms and finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sur_adapter.losses import kd
from torch.nn import functional as F


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]


@given(st.integers(1, 3), st.integers(1, 5), st.integers(2, 7), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 99))
def test_reverse_batchmean_is_the_authors_call(batch, tokens, width, temperature, seed):
    a, b = pair(batch, tokens, width, seed=seed)
    theirs = F.kl_div(F.log_softmax(a / temperature, -1), F.softmax(b / temperature, -1), reduction="batchmean")
    ours = kd(a, b, direction="reverse", reduction="batchmean", temperature=temperature)
    torch.testing.assert_close(ours, theirs * temperature**2)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(2, 7), st.integers(0, 99))
def test_forward_token_mean_is_torchs_divergence(batch, tokens, width, seed):
    a, b = pair(batch, tokens, width, seed=seed)
    expected = F.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="sum") / (batch * tokens)
    found = kd(a, b)
    torch.testing.assert_close(found, expected)
    assert found >= 0
    assert kd(a, a + 5.0) == pytest.approx(0.0, abs=1e-12), "a shift of the logits is no difference"


def test_closed_form_of_two_classes():
    a, b = torch.tensor([[[math.log(3.0), 0.0]]]), torch.zeros(1, 1, 2)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kd(a, b).item() == pytest.approx(forward)
    assert kd(a, b, direction="reverse").item() == pytest.approx(reverse)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_student_alone_gets_a_gradient(direction):
    a, b = (one.requires_grad_() for one in pair(2, 3, 4))
    kd(a, b, direction=direction).backward()
    assert a.grad is None
    assert b.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda v: kd(a.detach(), v, direction=direction, temperature=2.0), b)


def test_one_target_for_all_tokens():
    a, b = pair(2, 3, 4)
    one = a[:, :1]
    assert kd(one, b) == kd(one.expand(2, 3, 4), b)
    torch.testing.assert_close(kd(one, b, reduction="batchmean"), kd(one.expand(2, 3, 4), b, reduction="batchmean"))


def test_the_mask_picks_the_tokens():
    a, b = pair(2, 3, 4)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    expected = torch.stack([kd(a[i : i + 1, j : j + 1], b[i : i + 1, j : j + 1]) for i, j in mask.nonzero()])
    torch.testing.assert_close(kd(a, b, mask=mask), expected.mean())
    torch.testing.assert_close(kd(a, b, mask=mask, reduction="batchmean"), expected.sum() / 2)
    assert kd(a, b, mask=torch.zeros_like(mask)) == 0
    poisoned = b.clone()
    poisoned[0, 1] = math.nan
    assert kd(a, poisoned, mask=mask).isfinite()


def test_half_precision_is_computed_in_float32():
    a, b = (one.half() for one in pair(2, 3, 400))
    found = kd(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), kd(a.double(), b.double()), atol=0, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "both"}, "direction is 'both'"),
        ({"reduction": "mean"}, "reduction is 'mean'"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"mask": torch.ones(2, 2, dtype=torch.bool)}, r"mask has shape \(2, 2\); the student's tokens are \(2, 3\)"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        kd(*pair(2, 3, 4), **options)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 4), (3, 4), (2, 3, 1)])
def test_targets_that_do_not_broadcast(shape):
    with pytest.raises(ValueError, match="does not broadcast"):
        kd(torch.zeros(shape), torch.zeros(2, 3, 4))
