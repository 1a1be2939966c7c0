import doctest

import numpy as np
import pytest
import torch
from sail_core import testing
from sail_core.testing import assert_rel, byte_count, poison_empty, relative_error


def test_doctests():
    result = doctest.testmod(testing)
    assert result.attempted > 0
    assert result.failed == 0


def test_relative_error_is_the_ratio_of_norms():
    ref, got = np.array([1.0, -2.0, 2.0]), np.array([1.0, -2.0, 2.3])
    assert relative_error(ref, torch.tensor(got)) == pytest.approx(0.1)
    assert relative_error(torch.tensor([3 + 4j]), torch.tensor([3 + 4.5j])) == pytest.approx(0.1)
    assert relative_error(torch.zeros(3), torch.zeros(3)) == 0
    assert relative_error(torch.zeros(3), torch.ones(3)) == float("inf")
    assert relative_error(torch.zeros(0), torch.zeros(0)) == 0


def test_relative_error_does_not_lose_what_the_input_dtype_cannot_hold():
    ref = torch.full((1000,), 6e4, dtype=torch.float16)
    assert relative_error(ref, ref) == 0
    assert 0 < relative_error(ref, ref - 32) < 1e-3


@pytest.mark.parametrize(("ref", "got"), [("nan", 1.0), (1.0, "nan"), ("inf", "-inf"), ("inf", "nan"), (1.0, "inf")])
def test_misplaced_non_finite_values_fail(ref, got):
    with pytest.raises(AssertionError, match="relative error inf"):
        assert_rel("y", [float(ref), 1.0], [float(got), 1.0], 1.0)


def test_matching_non_finite_values_are_left_out():
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 2.0])
    assert_rel("y", values, values + 1e-9, 1e-8)


def test_the_message_names_the_numbers_and_the_place():
    with pytest.raises(AssertionError, match=r"^dx: relative error 0\.5 > 0\.01; .* at \(1, 0\): expected 2, got 1$"):
        assert_rel("dx", [[0.0], [2.0]], [[0.0], [1.0]], 0.01)
    with pytest.raises(AssertionError, match=r"dx: shapes differ: expected \(2,\), got \(1, 2\)"):
        assert_rel("dx", torch.ones(2), torch.ones(1, 2), 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64], ids=str)
def test_poison_covers_every_allocation(dtype):
    like = torch.ones(2, 3, dtype=dtype)
    with poison_empty():
        made = [
            torch.empty(2, 3, dtype=dtype),
            torch.empty_like(like),
            torch.empty_strided((2, 3), (1, 2), dtype=dtype),
            like.new_empty(2, 3),
            like.new_empty_strided((2, 3), (3, 1)),
        ]
    assert all(t.isnan().all() for t in made)
    assert (torch.zeros_like(like) == 0).all()


def test_poison_makes_integers_extreme_and_ends_with_the_block():
    with poison_empty():
        assert (torch.empty(3, dtype=torch.int16) == 2**15 - 1).all()
        assert torch.empty(3, dtype=torch.bool).all()
        assert (torch.zeros(3) == 0).all()
    torch.empty(1000).zero_()
    assert type(torch.empty(1)) is torch.Tensor


def test_poison_shows_a_half_written_output():
    def broken(x):
        out = torch.empty_like(x)
        out[:-1] = x[:-1]
        return out

    with poison_empty(), pytest.raises(AssertionError, match="inf"):
        assert_rel("y", torch.ones(8), broken(torch.ones(8)), 1e-6)


def test_bytes_are_those_of_the_operands():
    x, row, out = torch.ones(4, 8), torch.ones(1, 8), torch.empty(4, 8)
    cases = [
        (lambda: x + row, 128 + 32, 128),
        (lambda: x + row.expand(4, 8), 128 + 32, 128),
        (lambda: x.add_(row), 128 + 32, 128),
        (lambda: x.fill_(1.0), 0, 128),
        (lambda: out.copy_(x), 128, 128),
        (lambda: torch.mul(x, row, out=out), 128 + 32, 128),
        (lambda: x.sum(1), 128, 16),
        (lambda: torch.cat([x, x]), 256, 256),
        (lambda: torch.zeros_like(x), 0, 128),
        (lambda: x.double(), 128, 256),
        (lambda: torch.max(x, 1), 128, 16 + 32),
        (lambda: x.chunk(2), 0, 0),
        (lambda: torch.split_with_sizes_copy(x, [1, 3]), 128, 128),
        (lambda: torch.empty_like(x.t()[1:].view(7, 4)), 0, 0),
    ]
    for i, (call, read, written) in enumerate(cases):
        with byte_count() as count:
            call()
        assert (count.read, count.written) == (read, written), i


def test_bytes_of_a_backward_are_counted():
    x = torch.ones(4, 8, requires_grad=True)
    with byte_count() as count:
        torch.autograd.grad(x.relu(), x, torch.ones(4, 8))
    assert count.passes(x.nbytes) == 1 + 2 + 3
    assert [op.name for op in count.ops] == ["relu", "ones", "threshold_backward"]


def test_the_plugins_fixture_poisons(poisoned_empty):
    assert torch.empty(2, 3).isnan().all()
