"""What goes through save_state and load_state comes back the same, in type and in every bit."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from sail_core.runs import CheckpointError, load_state, save_state
from sail_core.runs._tree import flatten, unflatten

hypothesis = pytest.importorskip("hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies


def same(a, b):
    """Equality of type, structure and bits, written without the code under test."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and [type(k) for k in a] == [type(k) for k in b] and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        alike = a.dtype == b.dtype and a.shape == b.shape
        return alike and a.contiguous().view(-1).view(torch.uint8).equal(b.contiguous().view(-1).view(torch.uint8))
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    return a == b


def through_disk(tmp_path, state):
    return load_state(save_state(tmp_path, state, step=0))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text(alphabet=st.characters())
)
states = st.recursive(
    scalars | st.builds(lambda n: torch.arange(n, dtype=torch.int16), st.integers(0, 3)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=25,
)


@given(states)
@settings(max_examples=200)
def test_any_nesting_survives_json(state):
    tree, tensors = flatten(state)
    assert same(unflatten(json.loads(json.dumps(tree, allow_nan=False)), tensors), state)


@given(states)
@settings(max_examples=15)
def test_any_nesting_survives_the_disk(tmp_path_factory, state):
    assert same(through_disk(tmp_path_factory.mktemp("state"), state), state)


@pytest.mark.parametrize(
    "value",
    [
        math.inf,
        -math.inf,
        math.nan,
        -0.0,
        5e-324,
        0.1 + 0.2,
        2**53,
        -(2**53) - 1,
        10**6000,
        True,
        1,
        1.0,
        "",
        "\ud800 lone",
        "/~'",
        (),
        [],
        {},
        ((),),
        {0: "int", "0": "str", -1: None},
        Counter({3: 1, 5: 2}),
        OrderedDict(b=1, a=2),
        {"__metadata__": 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_single_values(tmp_path, value):
    assert same(through_disk(tmp_path, value), value)
    assert same(through_disk(tmp_path, {"a": [value]}), {"a": [value]})


DTYPES = """float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64
float8_e4m3fn float8_e5m2 complex64"""


@pytest.mark.parametrize("name", DTYPES.split())
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)], ids=str)
def test_every_dtype_and_shape(tmp_path, name, shape):
    dtype = getattr(torch, name)
    size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(0, 2, (size,), dtype=torch.uint8) if name == "bool" else torch.randint(0, 256, (size,)).byte()
    value = raw.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)
    try:
        back = through_disk(tmp_path, value)
    except TypeError as error:
        pytest.skip(f"the installed safetensors: {error}")
    assert same(back, value)


def test_views_and_shared_storage(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "base": base,
        "row": base[1],
        "column": base[:, 2],
        "transposed": base.t(),
        "expanded": torch.tensor(3.0).expand(5),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "empty": [base[:0], base[:0]],
        "grad": torch.ones(2, requires_grad=True) * 2,
    }
    expected = {**state, "grad": state["grad"].detach()}
    assert same(through_disk(tmp_path, state), expected)


def test_lazily_conjugated_and_negated_tensors(tmp_path):
    value = torch.randn(3, dtype=torch.complex64)
    negative = value.conj().imag
    assert negative.is_neg()
    assert same(through_disk(tmp_path, negative), -value.imag)
    try:
        assert same(through_disk(tmp_path, [value.conj(), value]), [value.conj().resolve_conj(), value])
    except TypeError as error:
        pytest.skip(f"the installed safetensors: {error}")


def test_a_large_view_does_not_store_its_base(tmp_path):
    path = save_state(tmp_path, {"view": torch.zeros(1_000_000)[:10]}, step=0)
    assert (path / "tensors.safetensors").stat().st_size < 1000


def test_tied_weights_are_stored_once_and_come_back_tied(tmp_path):
    weight = torch.nn.Parameter(torch.randn(100, 100))
    path = save_state(tmp_path, {"encoder": weight, "decoder": weight.detach()}, step=0)
    assert (path / "tensors.safetensors").stat().st_size < 2 * weight.nbytes
    back = load_state(path)
    assert back["encoder"].data_ptr() == back["decoder"].data_ptr()
    assert type(back["encoder"]) is torch.Tensor


def test_keys_that_would_collide_as_paths(tmp_path):
    state = {
        "a": {"b": torch.tensor(1)},
        "a/b": torch.tensor(2),
        0: torch.tensor(3),
        "0": torch.tensor(4),
        "": torch.tensor(5),
    }
    assert same(through_disk(tmp_path, state), state)
    assert same(through_disk(tmp_path, {"\ud800": torch.tensor(1)}), {"\ud800": torch.tensor(1)})


def test_numpy_scalars_and_arrays(tmp_path):
    state = {
        "best": np.float64("inf"),
        "half": np.float16(0.1),
        "flag": np.bool_(True),
        "count": np.uint64(2**64 - 1),
        "array": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "point": np.array(1.5),
        "generator": np.random.default_rng(3).bit_generator.state,
    }
    assert same(through_disk(tmp_path, state), state)


def test_loaded_tensors_may_be_written(tmp_path):
    path = save_state(tmp_path, {"w": torch.zeros(3), "n": np.zeros(3)}, step=0)
    state = load_state(path)
    state["w"] += 1
    state["n"] += 1
    assert same(load_state(path), {"w": torch.zeros(3), "n": np.zeros(3)})


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"model": {"act": torch.relu}}, "at /model/act"),
        ({"a": [1, {2}]}, "set at /a/1"),
        ({"a": {(1, 2): 3}}, r"key \(1, 2\) of type tuple at /a"),
        ({"a": {True: 3}}, "key True of type bool"),
        (torch.eye(2).to_sparse(), "sparse"),
        ({"w": torch.empty(2, device="meta")}, "on meta at /w"),
        ({"w": torch.zeros(2, dtype=torch.complex128)}, "complex128 at /w"),
        ({"w": np.array(["a"])}, "at /w"),
        ({"w": np.longdouble(1)}, "at /w"),
    ],
    ids=str,
)
def test_what_cannot_be_stored_is_named(tmp_path, state, says):
    with pytest.raises(TypeError, match=says):
        save_state(tmp_path, state, step=0)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_contains_itself(tmp_path):
    state = []
    state.append(state)
    with pytest.raises(ValueError, match="contains itself"):
        save_state(tmp_path, state, step=0)


@pytest.mark.parametrize(
    "tree",
    [
        '{"set": []}',
        '{"tensor": "/absent"}',
        '{"dict": [[1]]}',
        "{}",
        '{"numpy": ["object", 1]}',
        '{"dict": 3}',
        "[" * 99_999,
    ],
)
def test_foreign_json_is_refused(tmp_path, tree):
    path = save_state(tmp_path, {}, step=0)
    (path / "state.json").write_text(tree)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["state.json"] = {"bytes": len(tree), "sha256": hashlib.sha256(tree.encode()).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="no state of this format"):
        load_state(path)
