"""The wording: complete in three languages, named by a hash, and users' own wording checked."""

import json
import string

import pytest
from clot import Templates
from clot._templates import FIELDS, GAMES, LANGUAGES, game_of, lettered
from hypothesis import given
from hypothesis import strategies as st

KINDS = ("generate", "condition", "select", "rank", "mask")


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_three_different_paraphrases_of_every_kind_and_game(lang, kind):
    templates = Templates()
    for game in FIELDS[kind]:
        assert templates.variants(kind, lang, game) == 3
        texts = {
            templates.render(kind, lang, game, question="Q", condition="C", options="ab", text="T", variant=at)
            for at in range(3)
        }
        assert len(texts) == 3


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_language_is_left_in_another(lang):
    """Chinese and Japanese wording has no English sentence in it, English no Han sign, Japanese always kana."""
    templates = Templates()
    for kind, games in FIELDS.items():
        for game in games:
            for variant in range(templates.variants(kind, lang, game)):
                text = templates.render(kind, lang, game, variant=variant).replace("[MASK]", "").replace("X", "")
                letters = [one for one in text if one.isalpha()]
                latin = sum(one in string.ascii_letters for one in letters)
                kana = sum("\u3040" <= one <= "\u30ff" for one in letters)
                assert (latin == len(letters)) if lang == "en" else latin == 0
                assert (kana > 0) == (lang == "ja")


def test_what_changes_stands_last_so_that_the_rest_is_shared():
    templates = Templates()
    for lang in LANGUAGES:
        for game in GAMES:
            first = templates.render("select", lang, game, question="Q", options=["one", "two"])
            second = templates.render("select", lang, game, question="Q", options=["two", "one"])
            shared = first[: first.index("A. ")]
            assert second.startswith(shared)
            assert templates.render("condition", lang, game, question="Q", condition="cactus").endswith("cactus")


def test_the_hash_names_the_wording(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"lang": "en", "generate": {"T2T": ["Be funny: {question}"]}}), encoding="utf-8")
    mine = Templates(path)
    assert Templates().digest == Templates([]).digest
    assert mine.digest != Templates().digest
    assert mine.render("generate", "en", "T2T", question="Why?", variant=7) == "Be funny: Why?"
    assert mine.render("generate", "en", "I2T") == Templates().render("generate", "en", "I2T")
    assert mine.render("generate", "ja", "T2T") == Templates().render("generate", "ja", "T2T")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "names no language"),
        ({"generate": {}}, "names no language"),
        ({"lang": "fr"}, "'fr' is not known"),
        ({"lang": "en", "joke": {}}, "no kind 'joke'"),
        ({"lang": "en", "generate": []}, "lists of templates by game"),
        ({"lang": "en", "generate": {"T2I": ["x"]}}, "no game 'T2I'"),
        ({"lang": "en", "generate": {"T2T": []}}, "at least one template"),
        ({"lang": "en", "generate": {"T2T": [5]}}, "expected a text"),
        ({"lang": "en", "generate": {"T2T": ["  "]}}, "expected a text"),
        ({"lang": "en", "generate": {"T2T": ["Be funny."]}}, r"has the placeholders none; expected \{question\}"),
        ({"lang": "en", "generate": {"I2T": ["Say {question}"]}}, "expected no placeholder"),
        ({"lang": "en", "generate": {"T2T": ["{question} {question.__class__}"]}}, "placeholders"),
        ({"lang": "en", "generate": {"T2T": ["{question!r}"]}}, "has a format"),
        ({"lang": "en", "generate": {"T2T": ["{question:>9}"]}}, "has a format"),
        ({"lang": "en", "generate": {"T2T": ["{question"]}}, "for braces"),
        ({"lang": "en", "condition": {"I2T": ["{condition} must be in it"]}}, r"does not end with \{condition\}"),
        ({"lang": "en", "select": {"I2T": ["{n} of {options} please"]}}, r"does not end with \{options\}"),
    ],
)
def test_wording_that_cannot_work_is_refused(tmp_path, content, problem):
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=problem):
        Templates(path)


def test_missing_wording():
    with pytest.raises(FileNotFoundError):
        Templates("nowhere.json")
    with pytest.raises(ValueError, match="no template of kind 'mask' for 'IT2T'"):
        Templates().render("mask", "en", "IT2T")


@given(st.text(max_size=40), st.lists(st.text(max_size=20), min_size=2, max_size=26))
def test_whatever_texts_hold_a_prompt_has_one_line_an_option(question, options):
    text = Templates().render("select", "en", "T2T", question=question, options=options, n=1)
    shown = lettered(options)
    assert text.endswith("Options:\n" + shown)
    assert question in text
    assert len(shown.splitlines()) == len(options)
    assert [line[:2] for line in shown.splitlines()] == [f"{one}." for one in string.ascii_uppercase[: len(options)]]


def test_a_question_inside_a_picture():
    assert game_of("T2T", None) == "I2T"
    assert game_of("T2T", "Why?") == "T2T"
    assert game_of("IT2T", "It is [MASK]") == "IT2T"
