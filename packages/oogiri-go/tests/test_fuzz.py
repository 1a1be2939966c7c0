"""Whatever the bytes: a valid record or a typed issue, and nothing else."""

import json
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oogiri_go import Issue, Record, read_jsonl, record_id
from oogiri_go._synthetic import lines as synthetic

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = {
    "type": st.sampled_from(["T2T", "I2T", "IT2T"]) | JSON,
    "question": st.none() | st.text(max_size=30) | JSON,
    "image": st.none() | st.from_regex(r"[\w.-]{1,12}", fullmatch=True) | JSON,
    "text": st.text(max_size=40) | JSON,
    "star": st.none() | st.integers(0, 99) | JSON,
    "lang": st.sampled_from(["en", "cn", "jp"]) | JSON,
    "extra": JSON,
}
OBJECTS = st.fixed_dictionaries({}, optional=FIELDS)


def check(path, data):
    """Read, and hold everything that comes to the contract."""
    path.write_bytes(data)
    found = list(read_jsonl(path, on_error="collect"))
    starts = [0, *(at + 1 for at, byte in enumerate(data) if byte == 10)]
    last = 0
    for one in found:
        if isinstance(one, Issue):
            assert 1 <= one.line <= len(starts)
            assert one.offset in (starts[one.line - 1], 3)
            assert one.code
            assert one.message
            assert one.line > last
            last = one.line
            continue
        assert type(one) is Record
        assert one.type in ("T2T", "I2T", "IT2T")
        assert one.lang in ("en", "zh", "ja")
        assert len(one.text.encode()) > 0
        assert unicodedata.is_normalized("NFC", one.text)
        assert one.question is None or one.question.strip()
        assert one.star is None or (type(one.star) is int and 0 <= one.star < 2**63)
        assert one.image is not None or (one.type == "T2T" and one.question is not None)
        assert one.id == record_id(lang=one.lang, type=one.type, question=one.question, image=one.image, text=one.text)
        json.dumps(one.extra, allow_nan=False).encode()
    assert len(found) <= len(starts)
    return found


def mutate(rng, line):
    """Break a line as disks, programs and people do."""
    data = bytearray(line)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0:
            data[at:at] = bytes([rng.randrange(256)])
        elif kind == 1 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.randrange(12)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randrange(40)]
        elif kind == 4:
            data[at:at] = rng.choice(
                [b'"', b"\\", b"\\u", b"\\ud800", b"\n", b"\r\n", b"{", b"}", b":", b",", b"null", b"\x00"]
            )
        elif kind == 5:
            data = data[:at]
        elif kind == 6:
            value = rng.choice([b"true", b"-1", b"1e400", b'"5"', b"5.0", b"[]", b"{}", b"NaN", b'"../x"', b"9" * 30])
            data = bytearray(bytes(data).rpartition(b":")[0] + b":" + value + b"}")
        else:
            data[at:at] = rng.choice(["\u202e", "\ufeff", "e\u0301", "👩‍👧", "ﷺ"]).encode()
    return bytes(data)


def mutated_lines(path, count, originals):
    """In files of 50 lines, for the fast path meets neighbours; returns how many records survived."""
    rng = random.Random(1)
    records = 0
    for _ in range(count // 50):
        rows = [mutate(rng, rng.choice(originals)) if rng.random() < 0.7 else rng.choice(originals) for _ in range(50)]
        records += sum(isinstance(one, Record) for one in check(path, b"\n".join(rows)))
    return records


def real_lines(sail_data):
    rows = [row for lang in ("en", "zh", "ja") for row in synthetic(60, lang=lang, seed=0, pictures=[])]
    return rows + sail_data("humor/nycc_en.jsonl").read_bytes().splitlines()[:200]


@settings(max_examples=250)
@given(st.lists(OBJECTS.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60), max_size=4))
def test_generated_lines(tmp_path_factory, rows):
    check(tmp_path_factory.getbasetemp() / "fuzz.jsonl", b"\n".join(rows))


def test_mutated_lines(tmp_path, sail_data):
    assert mutated_lines(tmp_path / "fuzz.jsonl", 2_000, real_lines(sail_data)) > 600


@pytest.mark.slow
def test_very_many_mutated_lines(tmp_path, sail_data):
    assert mutated_lines(tmp_path / "fuzz.jsonl", 100_000, real_lines(sail_data)) > 30_000


@pytest.mark.slow
@settings(max_examples=10_000)
@given(st.lists(OBJECTS.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60), max_size=4))
def test_very_many_generated_lines(tmp_path_factory, rows):
    check(tmp_path_factory.getbasetemp() / "fuzz.jsonl", b"\n".join(rows))
