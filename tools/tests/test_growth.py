import growth
import pytest

GOALS = """
[[growth]]
op = "growth_records"
time = 1.0
memory = 0.0
name = "read: records"

[[growth]]
op = "growth_never"
time = 1.0
name = "never measured"
"""


def rows(op="growth_records", impl="ours", power=2.0, held=4096):
    shared = {"op": op, "impl": impl, "layout": "records", "correct": True, "peak_bytes": held}
    return [shared | {"shape": [size], "median_us": 5.0 * size**power} for size in (64, 1, 2, 4, 8, 16, 32)]


@pytest.fixture
def goals(tmp_path):
    path = tmp_path / "goals.toml"
    path.write_text(GOALS)
    return path


def test_the_exponent_is_that_of_the_upper_half():
    assert growth.exponent([(x, 3 * x**1.5) for x in (1, 2, 4, 8)]) == pytest.approx(1.5)
    constant_then_linear = [(x, max(16.0, x)) for x in (1, 2, 4, 8, 16, 32, 64, 128)]
    assert growth.exponent(constant_then_linear) == pytest.approx(1.0)
    assert growth.exponent([(1, 1), (2, 2)]) is None


def test_the_first_implementation_counts_and_what_is_missing_stays_empty(goals, tmp_path):
    series = growth.read(rows() + rows(impl="peer", power=1.0) + rows(op="other"), goals)
    assert [len(one.points) for one in series] == [7, 0]
    lines = growth.table(series).splitlines()
    assert lines[2] == "| read: records | 1 - 64 records | 2.00 (1) | 0.00 (0) | 20.5 ms, 0.0 MB |"
    assert lines[3] == "| never measured | not measured | - (1) | - (-) | - |"
    assert growth.draw(series, tmp_path / "new" / "growth.svg")
    assert not growth.draw(series[1:], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_wrong_rows_do_not_count(goals):
    wrong = [row | {"correct": False, "median_us": None} for row in rows()]
    assert growth.read(wrong, goals)[0].points == []
