"""Paired comparison against scipy, statistics and closed forms."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sur_adapter import mcnemar, paired

binary = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40)


@given(st.integers(0, 60), st.integers(0, 60))
@settings(deadline=None, max_examples=60)
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    from scipy.stats import binomtest

    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="-1"):
        mcnemar(-1, 2)


@given(binary)
@settings(deadline=None, max_examples=30)
def test_counts_and_difference(pairs):
    base, adapter = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    found = paired(base, adapter, draws=200)
    assert found.gained == sum(b and not a for a, b in pairs)
    assert found.lost == sum(a and not b for a, b in pairs)
    assert found.difference == pytest.approx(np.mean(adapter) - np.mean(base))
    assert found.low <= found.difference + 1e-9
    assert found.high >= found.difference - 1e-9
    assert found.p == pytest.approx(mcnemar(found.gained, found.lost))


def test_swapping_mirrors():
    draw = random.Random(0)
    a, b = ([draw.random() for _ in range(25)] for _ in range(2))
    one, other = paired(a, b), paired(b, a)
    assert one.difference == -other.difference
    assert one.low == pytest.approx(-other.high)


def test_interval_of_many_prompts_is_the_normal_one():
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(4000, generator=generator, dtype=torch.float64) + 0.1
    found = paired(torch.zeros(4000), d)
    half = 1.96 * float(d.std()) / math.sqrt(4000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.04)


def test_prompts_are_drawn_whole():
    """Ten equal seeds of a prompt say no more than one."""
    draw = torch.Generator().manual_seed(1)
    base = torch.randint(2, (30, 1), generator=draw).double()
    adapter = torch.randint(2, (30, 1), generator=draw).double()
    one, ten = paired(base, adapter), paired(base.expand(30, 10), adapter.expand(30, 10))
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high))
    assert ten.gained == 10 * one.gained
    assert ten.p == one.p


def test_scores_that_are_no_hits_have_no_mcnemar():
    found = paired([0.5, 0.2], [0.6, 0.9])
    assert (found.gained, found.lost, found.p) == (None, None, None)


@pytest.mark.parametrize(
    ("base", "adapter", "options", "message"),
    [
        ([1, 0], [1, 0, 1], {}, "shape"),
        ([1], [1], {}, "at least 2 prompts"),
        ([], [], {}, "expected"),
        ([1, float("nan")], [1, 0], {}, "base scores are not all finite"),
        ([1, 0], [1, float("inf")], {}, "adapter scores are not all finite"),
        ([1, 0], [1, 0], {"confidence": 1.0}, "confidence"),
        ([1, 0], [1, 0], {"draws": 10}, "draws"),
    ],
)
def test_bad_input(base, adapter, options, message):
    with pytest.raises(ValueError, match=message):
        paired(base, adapter, **options)
