"""Identifiers against their formula, normal forms against unicodedata, lines against the reader."""

import json
import unicodedata
from hashlib import blake2b

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oogiri_go import Record, language, read_jsonl, record_id, write_jsonl
from oogiri_go._record import compact_json, nfkc, to_line

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def formula(lang, type, question, image, text):
    fields = [lang, type, question or "", image or "", unicodedata.normalize("NFKC", text)]
    return blake2b(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode(), digest_size=16).hexdigest()


@given(
    st.sampled_from(["en", "zh", "ja"]), st.sampled_from(["T2T", "I2T"]), WORDS | st.none(), WORDS | st.none(), WORDS
)
def test_the_identifier_is_its_formula(lang, type, question, image, text):
    found = record_id(lang=lang, type=type, question=question, image=image, text=text)
    assert found == formula(lang, type, question, image, text)


def test_a_known_identifier():
    assert formula("en", "T2T", "Why?", None, "Why not?") == "61f4fe26abdd1ccd7e92e4036e763cea"


def every_character():
    return (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)


def test_the_encoder_writes_every_character_as_json_does():
    text = "".join(every_character())
    assert compact_json([text]).decode() == json.dumps([text], ensure_ascii=False, separators=(",", ":"))


def test_every_character_has_its_normal_form():
    assert [c for c in every_character() if nfkc(c) != unicodedata.normalize("NFKC", c)] == []


@given(st.text("！？，!?,e\u0301\u0327한\u1100\u1161ﾊﾞﬁ①Å\u212b\u3000a", max_size=12))
def test_the_normal_form_of_what_composes(text):
    assert nfkc(text) == unicodedata.normalize("NFKC", text)


def test_a_record_does_not_change():
    record = Record("", "T2T", "Why?", None, "Why not?", 5, "en")
    with pytest.raises(AttributeError):
        record.text = "other"
    assert (
        Record("", "T2T", "Why?", None, "a", 5, "en").extra is not Record("", "T2T", "Why?", None, "a", 5, "en").extra
    )
    assert msgspec.structs.fields(Record)[0].name == "id"
    assert Record.__struct_fields__ == (
        "id",
        "type",
        "question",
        "image",
        "text",
        "star",
        "lang",
        "source",
        "license",
        "extra",
    )


@pytest.mark.parametrize(("name", "is_"), [("en", "en"), ("cn", "zh"), ("ZH", "zh"), ("jp", "ja"), ("ja", "ja")])
def test_languages(name, is_):
    assert language(name) == is_


@pytest.mark.parametrize("name", ["de", "", "english", "c n"])
def test_unknown_languages(name):
    with pytest.raises(ValueError, match="expected one of en"):
        language(name)


@given(
    st.sampled_from(["en", "zh", "ja"]),
    WORDS.filter(str.strip).filter(lambda text: text != "None"),
    WORDS.filter(str.strip).map(lambda text: unicodedata.normalize("NFC", text)),
    st.none() | st.integers(0, 2**63 - 1),
    st.dictionaries(
        st.text("abc_", min_size=1).map("x".__add__),
        st.none()
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | WORDS
        | st.lists(st.integers(0, 9)),
        max_size=3,
    ),
)
def test_a_written_record_is_read_again(tmp_path_factory, lang, question, text, star, extra):
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    identifier = record_id(lang=lang, type="T2T", question=question, image=None, text=text)
    record = Record(identifier, "T2T", question, None, text, star, lang, "here", None, extra)
    assert write_jsonl([record, record], path) == 2
    assert list(read_jsonl(path)) == [record, record]
    assert path.read_bytes() == 2 * (to_line(record) + b"\n")
