"""Rows on the disk: order of training, files, damage."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sur_adapter._encoded import EncodedStore
from sur_adapter._order import rows_of_step


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_every_epoch_has_every_row_once(count, batch, seed):
    steps = -(-3 * count // batch)
    rows = torch.cat([rows_of_step(count, batch, step, seed=seed) for step in range(steps)])[: 3 * count]
    for epoch in range(3):
        assert sorted(rows[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


def test_order_depends_on_seed_and_epoch_alone():
    first = rows_of_step(50, 50, 0, seed=0)
    assert torch.equal(first, rows_of_step(50, 50, 0, seed=0))
    assert not torch.equal(first, rows_of_step(50, 50, 1, seed=0))
    assert not torch.equal(first, rows_of_step(50, 50, 0, seed=1))


def store(folder, **facts):
    return EncodedStore(folder, {"model": "a", **facts}, count=10, shard_rows=4)


def test_rows_come_back(tmp_path):
    values = torch.randn(10, 3, 2)
    made = store(tmp_path)
    assert made.missing() == [0, 1, 2]
    for shard in (2, 0):
        rows = made.rows_of(shard)
        made.add(shard, {"x": values[rows.start : rows.stop], "mask": values[rows.start : rows.stop, 0] > 0})
    assert store(tmp_path).missing() == [1]
    made.add(1, {"x": values[4:8], "mask": values[4:8, 0] > 0})
    again = store(tmp_path)
    rows = torch.tensor([9, 0, 5, 5])
    assert torch.equal(again.batch(rows)["x"], values[rows])
    assert torch.equal(again.batch(rows)["mask"], values[rows, 0] > 0)


def test_bad_rows_and_damage_are_named(tmp_path):
    made = store(tmp_path)
    with pytest.raises(ValueError, match="x has 3 rows, file 0 takes 4"):
        made.add(0, {"x": torch.zeros(3, 2)})
    values = torch.zeros(4, 2)
    values[2, 1] = torch.inf
    with pytest.raises(ValueError, match=r"x of row 6 is not finite in torch\.float32"):
        made.add(1, {"x": values})
    made.add(0, {"x": torch.zeros(4, 2)})
    with pytest.raises(ValueError, match=r"encoded-00002\.safetensors is missing or damaged"):
        made.batch(torch.tensor([9]))
    path = tmp_path / "encoded-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"encoded-00000\.safetensors is missing or damaged"):
        store(tmp_path).batch(torch.tensor([0]))
    with pytest.raises(ValueError, match="encoded with model 'a', this run has 'b'"):
        store(tmp_path, model="b")
    (tmp_path / "encoded.json").write_text("{")
    with pytest.raises(ValueError, match=r"encoded\.json is damaged"):
        store(tmp_path)
