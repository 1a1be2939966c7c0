"""The reader on every kind of line, good and bad."""

import json
import random
import unicodedata

import pytest
from oogiri_go import DataError, Issue, Record, read_jsonl, record_id
from oogiri_go._read import _read_line, published_records
from oogiri_go._synthetic import lines as synthetic

GOOD = {"type": "T2T", "question": "Why?", "image": None, "text": "Why not?", "star": 5}


def line(**changes):
    fields = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")


def read(tmp_path, data, name="en.jsonl", **options):
    path = tmp_path / name
    path.write_bytes(data)
    return list(read_jsonl(path, **{"on_error": "collect"} | options))


def code_of(tmp_path, data, **options):
    """The code of the only issue; the same line beside good ones must give the same."""
    (found,) = read(tmp_path, data, **options)
    assert isinstance(found, Issue), found
    first, again, last = read(tmp_path, b"\n".join([line(), data, line()]), **options)
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert (again.code, again.line, again.offset) == (found.code, 2, len(line()) + 1)
    return found.code


def test_a_published_line(tmp_path):
    (found,) = read(tmp_path, line())
    identifier = record_id(lang="en", type="T2T", question="Why?", image=None, text="Why not?")
    assert found == Record(identifier, "T2T", "Why?", None, "Why not?", 5, "en")


def test_without_identifier(tmp_path):
    for data in (line(), line(star="5")):
        assert [one.id for one in read(tmp_path, data, with_id=False)] == [""]


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"star": "5"}, "star", 5),
        ({"star": 5.0}, "star", 5),
        ({"star": None}, "star", None),
        ({"star": ...}, "star", None),
        ({"star": 2**63 - 1}, "star", 2**63 - 1),
        ({"question": "None", "image": 5651380, "type": "I2T"}, "question", None),
        ({"question": "", "image": "5651380", "type": "I2T"}, "question", None),
        ({"question": ..., "image": "5651380", "type": "I2T"}, "question", None),
        ({"question": None, "image": 5651380, "type": "I2T"}, "image", "5651380"),
        ({"image": "None"}, "image", None),
        ({"image": ""}, "image", None),
        ({"image": ...}, "image", None),
        ({"image": "5651380.jpg", "type": "IT2T"}, "image", "5651380.jpg"),
        ({"id": "a1"}, "extra", {"id": "a1"}),
        ({"votes": [1, 2], "rating_mean": 1.5}, "extra", {"votes": [1, 2], "rating_mean": 1.5}),
        ({"source": "here", "license": "CC-BY-4.0"}, "license", "CC-BY-4.0"),
        ({"text": "Cafe\u0301"}, "text", "Café"),
        ({"text": "👩‍👩‍👧‍👦 ﷺ שלום ｆｕｌｌ"}, "text", "👩‍👩‍👧‍👦 ﷺ שלום ｆｕｌｌ"),
        ({"text": "a\nb\tc\u0000"}, "text", "a\nb\tc\u0000"),
        ({"text": 'the "type": \\ "'}, "text", 'the "type": \\ "'),
        ({"text": "x" * 2000}, "text", "x" * 2000),
    ],
)
def test_what_is_accepted_and_coerced(tmp_path, changes, field, value):
    (found,) = read(tmp_path, line(**changes))
    assert isinstance(found, Record), found
    assert getattr(found, field) == value
    assert found.id == record_id(
        lang=found.lang, type=found.type, question=found.question, image=found.image, text=found.text
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (line()[:-1], "json"),
        (line()[: len(line()) // 2], "json"),
        (b"{}{", "json"),
        (line() + line(), "json"),
        (line() + b" x", "json"),
        (b"null", "json"),
        (b"[1]", "json"),
        (b'"text"', "json"),
        (b"NaN", "json"),
        (b"[" * 100_000 + b"]" * 100_000, "json"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "json"),
        (line().replace(b"Why?", b"Wh\x01y?"), "json"),
        (line().replace(b": 5", b": NaN"), "json"),
        (line().replace(b": 5", b": Infinity"), "json"),
        (line().replace(b": 5", b": 1e999"), "json"),
        (line().replace(b": 5", b": 05"), "json"),
        (line().replace(b"Why?", b"Wh\xff?"), "utf8"),
        (line().replace(b"Why?", b"\xc0\x80"), "utf8"),
        (line().replace(b"Why?", b"\xed\xa0\x80"), "utf8"),
        (b"\xff\xfe" + line(), "utf8"),
        (line().replace(b"Why?", b"\\ud800"), "surrogate"),
        (line().replace(b"Why?", b"\\udc00"), "surrogate"),
        (line(note="n").replace(b'"n"', b'"\\ud83d"'), "surrogate"),
        (line().replace(b'"star"', b'"type": "T2T", "star"'), "duplicate-key"),
        (line().replace(b'"star"', b'"t\\u0079pe": "T2T", "star"'), "duplicate-key"),
        (line().replace(b'"star"', b'"star": 5, "star" '), "duplicate-key"),
        (line().replace(b'"star"', b'"star"  : null, "star"\t'), "duplicate-key"),
        (line(note={"a": 1}).replace(b'"a": 1', b'"a": 1, "a": 2'), "duplicate-key"),
        (line(note=[{"a": "\\"}]).replace(b'{"a"', b'{"a": null, "a"'), "duplicate-key"),
        (line(**{"k\\": 1}).replace(b'"star"', b'"k\\\\": 1, "star"'), "duplicate-key"),
        (line(type=...), "missing"),
        (line(text=...), "missing"),
        (line(text=None), "missing"),
        (line(type="T2I"), "type"),
        (line(type="t2t"), "type"),
        (line(type=1), "type"),
        (line(type=["T2T"]), "type"),
        (line(text=""), "text"),
        (line(text=" \u3000\n"), "text"),
        (line(text=5), "text"),
        (line(text="x" * 2001), "text-length"),
        (line(text="x" * 100_000), "text-length"),
        (line(question="x" * 2001), "question-length"),
        (line(question=5), "question"),
        (line(question=None), "question"),
        (line(question="None"), "question"),
        (line(question=None, image="1"), "question"),
        (line(type="I2T"), "image"),
        (line(type="IT2T"), "image"),
        (line(type="IT2T", image="None"), "image"),
        (line(image=True, type="I2T"), "image"),
        (line(image=1.5, type="I2T"), "image"),
        (line(image=["1"], type="I2T"), "image"),
        *((line(image=name, type="I2T"), "image-id") for name in (
            "../1", "/etc/passwd", "C:\\1", "C:1", "a/b", "a\\b", "a\u0000", "1\n", "..", ".", "x" * 129, "a b", "～",
            "%2e%2e",
        )),
        *((line(star=star), "star") for star in (
            5.5, -1, True, False, "5.5", "-1", "", " 5", "five", "٥", [5], {}, 2**63, 1e300,
        )),
        (line(star=-(10**30)), "star"),
        (line(big=10**30), "number"),
        (line(big=[{"a": 10**30}]), "number"),
        (line(lang="de"), "lang"),
        (line(lang=1), "lang"),
        (line(source=1), "source"),
        (line(license=["MIT"]), "license"),
    ],
    ids=lambda value: value[:70].decode("latin-1") if isinstance(value, bytes) else value,
)  # fmt: skip
def test_every_bad_line_is_a_typed_issue(tmp_path, data, code):
    assert code_of(tmp_path, data) == code


def test_a_japanese_question_may_be_inside_the_picture(tmp_path):
    for question in (None, "None"):
        (found,) = read(tmp_path, line(question=question, image="1"), "jp.jsonl")
        assert (found.lang, found.type, found.question, found.image) == ("ja", "T2T", None, "1")
    (found,) = read(tmp_path, line(question=None), "jp.jsonl")
    assert found.code == "question"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\n \t\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\n"])
@pytest.mark.parametrize("last", [b"", b"\n"])
def test_marks_line_ends_and_blank_lines(tmp_path, start, end, last):
    data = start + end.join([line(), line(text="b"), b"{", line(star="7")]) + last
    first, second, issue, third = read(tmp_path, data)
    assert [first.text, second.text, third.star] == ["Why not?", "b", 7]
    assert data[issue.offset :].split(b"\n")[0].rstrip() == b"{"
    assert data[: issue.offset].count(b"\n") == issue.line - 1


def test_an_object_over_several_lines_and_two_on_one(tmp_path):
    data = line().replace(b", ", b",\n") + b"\n" + line() + line() + b"\n" + line()
    found = read(tmp_path, data)
    assert [type(one) for one in found] == [Issue] * 6 + [Record]
    assert found[5].line == 6


def test_the_three_ways_with_errors(tmp_path):
    path = tmp_path / "en.jsonl"
    path.write_bytes(line() + b"\n{\n" + line(star=-1) + b"\n" + line())
    assert len(list(read_jsonl(path, on_error="skip"))) == 2
    kinds = [type(one).__name__ for one in read_jsonl(path, on_error="collect")]
    assert kinds == ["Record", "Issue", "Issue", "Record"]
    reader = read_jsonl(path)
    assert next(reader).star == 5
    with pytest.raises(DataError, match=r"en\.jsonl, line 2 \(byte") as caught:
        next(reader)
    assert (caught.value.issue.line, caught.value.issue.code) == (2, "json")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("size", [1_000, 1 << 17, 1 << 20, 3 << 20])
def test_a_long_line_is_skipped_without_being_held(tmp_path, size):
    long = line(note="x" * size)
    data = b"\n".join([line(), long, line(text="b"), long])
    found = read(tmp_path, data, max_line=1_000)
    assert [getattr(one, "code", one) for one in found if isinstance(one, Issue)] == ["line-length"] * 2
    assert [(one.line, one.offset) for one in found if isinstance(one, Issue)] == [
        (2, data.find(long)), (4, data.rfind(long))
    ]  # fmt: skip
    assert [one.text for one in found if isinstance(one, Record)] == ["Why not?", "b"]
    assert all(isinstance(one, Record) for one in read(tmp_path, data, max_line=4 << 20))


@pytest.mark.parametrize(
    ("name", "text", "lang"),
    [
        ("en.jsonl", "猫", "en"), ("cn.jsonl", "a", "zh"), ("zh.jsonl", "a", "zh"), ("jp.jsonl", "a", "ja"),
        ("ja.jsonl", "a", "ja"), ("nycc_en.jsonl", "a", "en"), ("my-JP.jsonl", "a", "ja"),
        ("mine.jsonl", "a cat", "en"), ("mine.jsonl", "一只猫", "zh"), ("mine.jsonl", "猫です", "ja"),
        ("open.jsonl", "ﾈｺ", "ja"), ("mine.jsonl", "é", "en"),
    ],
)  # fmt: skip
def test_the_language_of_a_file(tmp_path, name, text, lang):
    for question in ("?", "? "):
        (found,) = read(tmp_path, line(text=text, question=question), name)
        assert found.lang == lang


def test_the_language_of_a_line(tmp_path):
    assert [one.lang for one in read(tmp_path, line(lang="jp"))] == ["ja"]
    assert [one.lang for one in read(tmp_path, line(), lang="cn")] == ["zh"]
    assert [one.lang for one in read(tmp_path, line(lang="cn"), lang="zh")] == ["zh"]
    assert [one.code for one in read(tmp_path, line(lang="en"), lang="jp")] == ["lang"]


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"lang": "de"}, {"max_line": 0}])
def test_bad_arguments_are_refused_at_once(tmp_path, options):
    (tmp_path / "en.jsonl").write_bytes(line())
    with pytest.raises(ValueError):
        read_jsonl(tmp_path / "en.jsonl", **options)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no\\.jsonl"):
        read_jsonl(tmp_path / "no.jsonl")
    with pytest.raises(FileNotFoundError):
        read_jsonl(tmp_path)


@pytest.mark.parametrize("with_id", [True, False])
@pytest.mark.parametrize("lang", ["en", "zh", "ja", None])
def test_the_fast_path_gives_what_the_reference_gives(lang, with_id):
    rows = list(synthetic(2_000, lang=lang or "ja", seed=3, pictures=[]))
    data = b"\n".join(rows) + b"\n"
    fast = published_records(data, lang=lang, with_id=with_id)
    assert fast == [_read_line(row, 1, 0, lang, False, 1 << 20, with_id) for row in rows]
    assert fast is not None


def test_the_fast_path_is_never_wrong_where_it_answers():
    """Lines of every kind, three at a time: either the reference agrees, or the fast path says that it cannot."""
    rng = random.Random(0)
    pieces = [
        line(),
        line(star=None),
        line(text='a"b":'),
        line(text="type"),
        line(question="\\"),
        line(type="I2T", image="7"),
    ]
    bad = [line(star="5"), b"", line(text=" "), line(image="..", type="I2T"), line(text="e\u0301"), line(image="None"),
           line().replace(b'"star"', b'"star": 1, "star" '), line().replace(b", ", b",\n"),
           line() + line()]  # fmt: skip
    answered = 0
    for _ in range(3_000):
        rows = rng.choices(pieces + bad, [4] * len(pieces) + [1] * len(bad), k=3)
        data = b"\n".join(rows) + b"\n" * rng.randrange(2)
        fast = published_records(data, lang="en", with_id=True)
        if fast is not None:
            answered += 1
            each = [_read_line(row, 1, 0, "en", False, 1 << 20, True) for row in data.removesuffix(b"\n").split(b"\n")]
            assert fast == each
    assert answered > 300


def test_the_human_rated_captions(sail_data):
    path = sail_data("humor/nycc_en.jsonl")
    found = list(read_jsonl(path))
    assert len(found) == 7_368
    assert {one.lang for one in found} == {"en"}
    assert all(unicodedata.is_normalized("NFC", one.text) for one in found)
    raw = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    assert [one.extra["id"] for one in found] == [row["id"] for row in raw]
    assert [one.license for one in found] == [row["license"] for row in raw]
    assert found[0].extra.keys() == {"id", "group", "rating_mean", "rating_se", "rating_count", "votes"}
