"""Metrics against scikit-learn, scipy, enumeration and simulation."""

import itertools
import math

import numpy as np
import pytest
from clot import metrics
from hypothesis import given
from hypothesis import strategies as st

STARS = st.lists(st.integers(0, 50), min_size=2, max_size=6)


ANY = st.floats(-5, 5)
TIED = st.sampled_from([0.0, 1.0, 2.0])


def paired(values):
    return STARS.flatmap(
        lambda stars: st.tuples(st.just(stars), st.lists(values, min_size=len(stars), max_size=len(stars)))
    )


@given(paired(ANY) | paired(TIED))
def test_ndcg_is_scikit_learns(both):
    sklearn = pytest.importorskip("sklearn.metrics")
    stars, scores = both
    assert metrics.ndcg(stars, scores) == pytest.approx(sklearn.ndcg_score([stars], [scores]), abs=1e-9)


@given(STARS)
def test_the_floor_is_the_mean_over_all_orders(stars):
    ranks = list(itertools.permutations(range(len(stars))))
    every = [metrics.ndcg(stars, order) for order in ranks]
    assert metrics.expected_random_ndcg(stars) == pytest.approx(math.fsum(every) / len(every), abs=1e-9)


@pytest.mark.parametrize(
    ("stars", "floor"),
    [((1, 0, 0, 0, 0), 0.590), ((100, 20, 5, 1, 0), 0.643), ((5, 4, 3, 2, 1), 0.861), ((3, 3, 2, 1, 1), 0.879)],
)
def test_published_floors(stars, floor):
    assert metrics.expected_random_ndcg(stars) == pytest.approx(floor, abs=5e-4)


def test_no_stars_at_all_give_nothing_as_in_scikit_learn():
    assert metrics.ndcg([0, 0, 0], [1, 2, 3]) == 0.0
    assert metrics.expected_random_ndcg([0, 0, 0]) == 0.0
    assert metrics.normalised_ndcg([0, 0, 0], [1, 2, 3]) is None
    assert metrics.normalised_ndcg([2, 2, 2], [1, 2, 3]) is None


@given(paired(ANY))
def test_normalised_ndcg_is_zero_on_average_and_one_at_best(both):
    stars, scores = both
    if min(stars) == max(stars):
        assert metrics.normalised_ndcg(stars, scores) is None
        return
    every = [metrics.normalised_ndcg(stars, order) for order in itertools.permutations(range(len(stars)))]
    assert math.fsum(every) / len(every) == pytest.approx(0, abs=1e-9)
    assert metrics.normalised_ndcg(stars, stars) == pytest.approx(1)
    assert metrics.normalised_ndcg(stars, scores) <= 1 + 1e-12


@given(paired(ANY) | paired(TIED))
def test_tau_is_scipys(both):
    stats = pytest.importorskip("scipy.stats")
    stars, scores = both
    found = metrics.kendall_tau(stars, scores)
    if len(set(stars)) == 1 or len(set(scores)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.kendalltau(stars, scores).statistic, abs=1e-9)


@given(paired(TIED))
def test_top1_is_the_mean_over_ways_to_break_ties(both):
    stars, scores = both
    firsts = [
        order[0]
        for order in itertools.permutations(range(len(stars)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    hits = [stars[at] == max(stars) for at in firsts]
    assert metrics.top1(stars, scores) == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize(
    ("stars", "scores", "problem"),
    [
        ([], [], "no stars"),
        ([1, 2], [1], "1 scores for 2"),
        ([1, -1], [1, 2], "at least 0"),
        ([1, math.nan], [1, 2], "finite"),
    ],
)
def test_unusable_orders(stars, scores, problem):
    for function in (metrics.ndcg, metrics.normalised_ndcg, metrics.top1, metrics.kendall_tau):
        with pytest.raises(ValueError, match=problem):
            function(stars, scores)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="nan"):
        metrics.ndcg([1, 2], [math.nan, 1])


def test_choices_are_exact_sets_and_the_unread_ones_are_wrong():
    choices, answers = [(0, 3), (3, 0), (0,), None, (1,)], [(0, 3), (0, 3), (0, 3), (2,), (1,)]
    assert metrics.choice_accuracy(choices, answers) == 3 / 5
    assert metrics.choice_accuracy(choices, answers, parsed_only=True) == 3 / 4
    assert metrics.parse_rate(choices) == 4 / 5
    assert math.isnan(metrics.choice_accuracy([None], [(0,)], parsed_only=True))
    with pytest.raises(ValueError, match="no right option"):
        metrics.choice_accuracy([(0,)], [()])
    with pytest.raises(ValueError, match="1 choices for 2 answers"):
        metrics.choice_accuracy([(0,)], [(0,), (1,)])


@given(st.integers(2, 8), st.data())
def test_chance_is_what_counting_the_sets_gives(options, data):
    right = data.draw(st.integers(1, options - 1))
    sets = list(itertools.combinations(range(options), right))
    assert metrics.chance(options, right) == pytest.approx(1 / len(sets))


def test_chance_needs_a_choice():
    with pytest.raises(ValueError, match="expected 1 <= n_right < n_options"):
        metrics.chance(3, 3)


@given(st.integers(1, 200), st.data())
def test_wilson_is_scipys(count, data):
    stats = pytest.importorskip("scipy.stats")
    hits = data.draw(st.integers(0, count))
    theirs = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert metrics.wilson(hits, count) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_bootstrap_is_scipys_where_items_are_alone():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(1, 2, 80)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    ours = metrics.mean_interval(values.tolist(), draws=4000)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.05)


def test_groups_widen_the_interval_as_they_should():
    """Ten copies of each of 20 items say no more than the items."""
    items = np.random.default_rng(1).normal(0, 1, 20)
    alone = metrics.mean_interval(items.tolist(), draws=3000)
    copies = np.repeat(items, 10).tolist()
    grouped = metrics.mean_interval(copies, groups=np.repeat(np.arange(20), 10).tolist(), draws=3000)
    assert grouped == pytest.approx(alone, abs=1e-9)
    naive = metrics.mean_interval(copies, draws=3000)
    assert naive[1] - naive[0] < 0.5 * (alone[1] - alone[0])
    assert metrics.mean_interval([1.0, 2.0], groups=["a", "a"]) is None


RATED = st.lists(
    st.tuples(st.integers(0, 2), st.floats(1, 3), st.floats(0.01, 0.5), st.sampled_from([0.0, 1.0, 2.0])), max_size=14
)


@given(RATED)
def test_pairs_by_brute_force(rows):
    groups, means, errors, scores = ([row[at] for row in rows] for at in range(4))
    apart, right = [], []
    for first in range(len(rows)):
        for second in range(first + 1, len(rows)):
            if groups[first] != groups[second]:
                continue
            gap = means[first] - means[second]
            if abs(gap) > 2 * np.hypot(errors[first], errors[second]):
                pair = (first, second) if gap > 0 else (second, first)
                apart.append(pair)
                difference = scores[pair[0]] - scores[pair[1]]
                right.append(1.0 if difference > 0 else 0.5 if difference == 0 else 0.0)
    found = metrics.pairwise_accuracy(scores, means, errors, groups, draws=50)
    assert sorted(metrics.separated_pairs(means, errors, groups)) == sorted(apart)
    assert found.pairs == len(apart)
    assert found.groups == len({groups[pair[0]] for pair in apart})
    if apart:
        assert found.accuracy == pytest.approx(sum(right) / len(right))
    else:
        assert math.isnan(found.accuracy)
    counts = [groups.count(group) for group in set(groups)]
    assert found.possible == sum(count * (count - 1) // 2 for count in counts)


def test_a_coin_orders_half_of_the_pairs():
    rng = np.random.default_rng(2)
    means, groups = rng.uniform(1, 3, 600).tolist(), np.repeat(np.arange(30), 20).tolist()
    found = metrics.pairwise_accuracy(rng.normal(size=600).tolist(), means, [0.05] * 600, groups)
    low, high = found.interval
    assert low < 0.5 < high
    assert high - low < 0.1


def test_unusable_pairs():
    with pytest.raises(ValueError, match="score of answer 1 is nan"):
        metrics.pairwise_accuracy([1, math.nan], [1, 2], [0.1, 0.1], ["a", "a"])
    with pytest.raises(ValueError, match="2 means, 1 errors"):
        metrics.separated_pairs([1, 2], [0.1], ["a", "a"])
    with pytest.raises(ValueError, match="not finite"):
        metrics.separated_pairs([1, math.inf], [0.1, 0.1], ["a", "a"])
