import doctest
import json
import math

import pytest
from sail_core.bench import _goals, _rows, append_rows, check, make_row, read_goals, read_rows, report
from sail_core.bench._rows import FIELDS


def row(**fields):
    base = dict.fromkeys(FIELDS) | {
        "schema": 1,
        "op": "se",
        "impl": "ours",
        "mode": "fwdbwd",
        "shape": [2, 3],
        "dtype": "float32",
        "layout": "nchw",
        "nbytes": 24,
        "device": "cpu",
        "device_name": "a",
        "median_us": 10.0,
        "correct": True,
        "noisy": False,
        "peer_ratio": {"timm": 1.5},
    }
    return base | fields


def goal(**fields):
    return {"name": "g", "where": {"impl": "ours"}, "peer": "timm", "statistic": "min", "at_least": 1.2} | fields


@pytest.mark.parametrize("module", [_goals, _rows])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def test_met_missed_and_unmeasured():
    rows = [row(shape=[1], peer_ratio={"timm": 1.1}), row(shape=[2], peer_ratio={"timm": 2.2})]
    (least,) = check(rows, [goal()])
    assert (least.status, least.value, least.rows) == ("missed", 1.1, 2)
    (mean,) = check(rows, [goal(statistic="geomean")])
    assert (mean.status, mean.value) == ("met", pytest.approx(math.sqrt(2.42)))
    assert check(rows, [goal(peer="torchvision")])[0].status == "unmeasured"
    assert check([], [goal()])[0].status == "unmeasured"
    assert check([row(peer_ratio={"timm": 1.2})], [goal()])[0].status == "met"


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ({"nbytes": {"min": 20}}, 2),
        ({"nbytes": {"max": 19}}, 1),
        ({"nbytes": {"min": 10, "max": 20}}, 2),
        ({"op": ["se", "other"]}, 3),
        ({"op": "other"}, 1),
        ({"shape": [2, 3]}, 3),
        ({"layout": "nhwc"}, 0),
    ],
)
def test_filters(where, count):
    rows = [row(nbytes=10), row(nbytes=20), row(nbytes=24, op="other"), row(nbytes=None, device="cuda", op="third")]
    where = where | {"device": "cpu"}
    assert check(rows, [goal(where=where)])[0].rows == count


def test_noisy_rows_do_not_gate_and_wrong_rows_miss():
    (noisy,) = check([row(noisy=True, peer_ratio={"timm": 0.1})], [goal()])
    assert (noisy.status, noisy.note) == ("unmeasured", "1 noisy, left out")
    (mixed,) = check([row(noisy=True, peer_ratio={"timm": 0.1}), row()], [goal()])
    assert mixed.status == "met"
    (wrong,) = check([row(), row(correct=False, peer_ratio=None, noisy=None)], [goal()])
    assert (wrong.status, wrong.note) == ("missed", "1 with a wrong result")


def test_a_field_can_be_the_goal():
    by_field = {k: v for k, v in goal(field="frac_ceiling", at_least=0.8).items() if k != "peer"}
    assert check([row(frac_ceiling=0.85)], [by_field])[0].status == "met"
    assert check([row()], [by_field])[0].status == "unmeasured"


def test_at_most_is_a_bound_from_above():
    slowest = {k: v for k, v in goal(field="median_us", statistic="max", at_most=10.0).items() if k[0] != "p"}
    del slowest["at_least"]
    assert check([row(median_us=9.0), row(shape=[1], median_us=10.0)], [slowest])[0].status == "met"
    (late,) = check([row(median_us=9.0), row(shape=[1], median_us=10.5)], [slowest])
    assert (late.status, late.value, late.bound) == ("missed", 10.5, 10.0)


def test_the_reason_is_told_unless_the_goal_is_met():
    (missed,) = check([row(peer_ratio={"timm": 1.1})], [goal(reason="the gate")])
    assert str(missed).endswith("g: 1 rows; the gate")
    (met,) = check([row()], [goal(reason="the gate")])
    assert str(met).endswith("g: 1 rows")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (goal(statistic="mean"), "statistic is 'mean'"),
        (goal(at_most=2.0), "at_least or at_most"),
        (goal(field="gbps"), "expected name, where"),
        (goal(colour=1), "expected name, where"),
        (goal(where={"width": 3}), "no field width"),
        ({"where": {}}, "without a name"),
    ],
)
def test_malformed_goals(bad, message):
    with pytest.raises(ValueError, match=message):
        check([], [bad])


def test_goals_come_from_toml(tmp_path):
    path = tmp_path / "goals.toml"
    path.write_text('[[goal]]\nname = "a"\nwhere = {op = "se"}\npeer = "timm"\nstatistic = "min"\nat_least = 1.1\n')
    assert [g["name"] for g in read_goals(path)] == ["a"]
    path.write_text("[[goal]\n")
    with pytest.raises(ValueError, match=r"goals\.toml"):
        read_goals(path)


def test_rows_survive_the_file_and_the_newest_wins(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    append_rows(path, [row(), row(impl="timm")])
    append_rows(path, [row(median_us=5.0)])
    found = read_rows(path)
    assert [(r["impl"], r["median_us"]) for r in found] == [("ours", 5.0), ("timm", 10.0)]
    assert len(path.read_text().splitlines()) == 3
    assert list(json.loads(path.read_text().splitlines()[0])) == list(FIELDS)


def test_bad_rows_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match="extra"):
        append_rows(path, [row(extra=1)])
    assert not path.exists()
    append_rows(path, [row()])
    for line in ("{", "[]", '{"schema": 2}', json.dumps(row() | {"schema": 2})):
        path.write_text(json.dumps(row()) + "\n" + line + "\n")
        with pytest.raises(ValueError, match="line 2: not a benchmark row"):
            read_rows(path)


def test_a_made_row_has_every_field_and_only_those(tmp_path):
    made = make_row("push", "ours", mode="p99", median_us=3.0)
    append_rows(tmp_path / "rows.jsonl", [made])
    assert read_rows(tmp_path / "rows.jsonl") == [made]
    assert (made["op"], made["device"], made["median_us"], made["peak_bytes"]) == ("push", "cpu", 3.0, None)
    with pytest.raises(ValueError, match="no field colour"):
        make_row("push", "ours", colour=1)


def test_the_report_has_a_table_for_each_operation_with_its_own_columns():
    rows = [
        row(frac_ceiling=0.5),
        row(impl="timm", median_us=15.0, peer_ratio={"ours": 2 / 3}),
        row(shape=[9], noisy=True, peer_ratio={"timm": 6.0}),
        row(shape=[9], impl="timm", correct=False, median_us=None, peer_ratio=None),
        row(op="held", mode="step", median_us=None, peak_bytes=2_500_000, peer_ratio=None),
    ]
    assert (
        report(rows)
        == """\
**se**, fwdbwd

| shape | dtype | layout | device | ours (µs) | timm (µs) | vs timm | of copy rate |
| --- | --- | --- | --- | --- | --- | --- | --- |
| 2x3 | float32 | nchw | cpu | 10.0 | 15.0 | 1.50 | 50% |
| 9 | float32 | nchw | cpu | ~10.0 | wrong | 6.00 | - |
| geometric mean |  |  |  |  |  | 3.00 |  |

**held**, step

| shape | dtype | layout | device | ours (µs) | peak (MB) |
| --- | --- | --- | --- | --- | --- |
| 2x3 | float32 | nchw | cpu | - | 2.5 |"""
    )
    assert report([]) == ""
