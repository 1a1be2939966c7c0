import doctest
import random
import statistics

import pytest
import torch
from sail_core.bench import _clock, _compare, compare
from sail_core.bench._rows import FIELDS


def run(implementations, reference=lambda x: x * 2, **options):
    settings = {"tolerance": 1e-6, "mode": "fwd", "shape": (3, 4), "dtype": "float32", "layout": "dense"}
    inputs = lambda seed: [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))]  # noqa: E731
    return compare("double", implementations, inputs, reference=reference, seconds=0.01, **(settings | options))


def slow(x):
    for _ in range(200):
        y = x + x
    return y


def test_doctests():
    assert doctest.testmod(_compare).failed == 0


def test_every_field_is_there_and_the_ratio_is_that_of_the_medians():
    ours, peer = run({"fast": lambda x: x + x, "slow": slow}, versions={"slow": "1.2"}, model_bytes=96)
    assert set(ours) == set(FIELDS)
    assert ours["peer_ratio"] == {"slow": pytest.approx(peer["median_us"] / ours["median_us"])}
    assert peer["peer_ratio"]["fast"] < 0.2
    assert ours["peer_ratio"]["slow"] > 5
    assert ours["rep"] >= 7
    assert ours["p20_us"] <= ours["median_us"] <= ours["p80_us"]
    assert (ours["impl_version"], peer["impl_version"]) == (None, "1.2")
    assert (ours["shape"], ours["nbytes"], ours["threads"], ours["order"]) == ([3, 4], 48, 1, 0)
    assert ours["gbps"] == pytest.approx(96e-3 / ours["median_us"])


def test_what_was_not_measured_is_null():
    (row,) = run({"only": lambda x: x + x}, dtype="utf8")
    names = ["host_us", "graph_us", "peak_bytes", "launches", "energy_uj", "power_src", "ceiling_gbps", "frac_ceiling"]
    assert all(row[name] is None for name in [*names, "model_bytes", "gbps", "nbytes", "impl_version"])
    assert row["peer_ratio"] == {}


@pytest.mark.parametrize(
    "wrong",
    [lambda x: x * 2.001, lambda x: (x * 2)[:1], lambda x: [x * 2, x], lambda x: x * float("nan")],
    ids=["value", "shape", "structure", "nan"],
)
def test_a_wrong_result_is_not_timed_and_gives_no_ratio(wrong):
    calls = []
    bad, good = run({"bad": lambda x: calls.append(1) or wrong(x), "good": lambda x: x + x})
    assert bad["correct"] is False
    assert bad["median_us"] is bad["peer_ratio"] is bad["noisy"] is None
    assert len(calls) == 1
    assert good["correct"] is True
    assert good["peer_ratio"] == {}


def test_parts_are_checked_one_by_one_and_none_is_skipped():
    reference = lambda x: (x, None, x * 1e-6)  # noqa: E731
    exact, close = run({"exact": reference, "off": lambda x: (x, x, x * 2e-6)}, reference)
    assert (exact["correct"], close["correct"]) == (True, False)
    assert close["rel_err"] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(("again", "noisy"), [(10.4, False), (10.6, True), (9.4, True)])
def test_the_noise_check_times_the_first_implementation_twice(again, noisy, monkeypatch):
    def clock(calls, *, seconds, rng):
        assert len(calls) == 3
        return [[10.0] * 7, [20.0] * 7, [again] * 7]

    monkeypatch.setattr(_clock, "time_cpu", clock)
    rows = run({"a": lambda x: x + x, "b": lambda x: x * 2})
    assert [row["noisy"] for row in rows] == [noisy, noisy]
    assert rows[0]["peer_ratio"] == {"b": 2.0}


def test_rounds_are_interleaved_and_shuffled():
    order = []
    samples = _clock._rounds(3, lambda i: order.append(i) or float(i), 0.0, random.Random(1))
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(sorted(one) == [0, 1, 2] for one in rounds)
    assert len(set(rounds)) > 1
    assert [statistics.mean(one) for one in samples] == [0.0, 1e6, 2e6]


def test_time_is_process_time_not_wall_time():
    import time

    asleep, busy = _clock.time_cpu([lambda: time.sleep(0.002), lambda: slow(torch.ones(8))], seconds=0.02, rng=random)
    assert statistics.median(asleep) < 1000
    assert statistics.median(busy) > 50


def test_the_thread_count_comes_back():
    before = torch.get_num_threads()
    seen = []
    run({"only": lambda x: seen.append(torch.get_num_threads()) or x + x})
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


def test_nothing_to_compare():
    with pytest.raises(ValueError, match="nothing to compare"):
        run({})
