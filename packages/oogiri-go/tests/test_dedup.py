"""Duplicates against brute force, sketches against exact similarity, looks against known changes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oogiri_go import Record, dedup, dedup_key, fold, picture_contents
from oogiri_go._minhash import bands, grams, jaccard, minhash
from oogiri_go._phash import LookIndex, look
from oogiri_go._picture import open_rgb
from oogiri_go._synthetic import encoded, picture, sentence
from PIL import Image


def answer(text, question="Why?", lang="en", image=None, star=None):
    return Record("", "T2T" if image is None else "I2T", None if image else question, image, text, star, lang)


@pytest.mark.parametrize(
    ("a", "b", "least", "most"),
    [
        ("猫が好きだから", "猫が好きだから。", 1, 1),
        ("今日は猫が魚を食べたから遅れた", "今日は猫が魚を食べたので遅れた", 0.6, 0.9),
        ("因为老板今天又忘记带雨伞了", "因为老板今天又忘记带雨伞啦", 0.6, 0.95),
        ("月亮上没有星期一", "月亮上没有星期二", 0.5, 0.8),
        ("猫が好きだから", "会議は月曜日です", 0, 0.05),
        ("Let sleeping dogs lie.", "let  sleeping dogs lie", 1, 1),
        ("Let sleeping dogs lie.", "Let sleeping cats lie.", 0.4, 0.75),
        ("ＡＢＣ ｶﾞ", "abc ガ", 1, 1),
        ("笑", "笑", 1, 1),
        ("笑", "泣", 0, 0),
        ("!!", "!?", 0, 0.9),
        ("", "", 1, 1),
    ],
)
def test_similarity_in_three_scripts(a, b, least, most):
    assert least <= jaccard(grams(a), grams(b)) <= most


@given(st.text(max_size=20))
def test_every_text_has_grams(text):
    found = grams(text)
    assert found
    assert jaccard(found, found) == 1
    assert all(2 <= len(one) <= 3 for one in found) or text.strip() == ""


def test_sketches_estimate_similarity():
    rng = random.Random(0)
    errors = []
    for _ in range(300):
        shared = frozenset(str(rng.random()) for _ in range(rng.randint(1, 40)))
        a = shared | {str(rng.random()) for _ in range(rng.randint(0, 20))}
        b = shared | {str(rng.random()) for _ in range(rng.randint(0, 20))}
        estimate = sum(x == y for x, y in zip(minhash(a), minhash(b), strict=True)) / 64
        errors.append(estimate - jaccard(a, b))
    mean = sum(errors) / len(errors)
    spread = (sum(error**2 for error in errors) / len(errors)) ** 0.5
    assert abs(mean) < 0.012  # unbiased: 4 standard errors of the mean
    assert spread < 0.0625 * 1.1  # at most 1 / (2 sqrt(64)) for one estimate


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.95])
def test_bands_meet_at_the_threshold(threshold):
    keys = list(bands(tuple(range(64)), threshold))
    rows = len(keys[0]) - 1
    assert rows * len(keys) == 64
    assert 1 - (1 - threshold**rows) ** len(keys) >= 0.999 or rows == 1
    assert len(set(keys)) == len(keys)


def corpus(seed):
    rng = random.Random(seed)
    rows = []
    for _ in range(150):
        lang = rng.choice(["en", "zh", "ja"])
        text = sentence(rng, lang)
        rows.append(answer(text, rng.choice(["Why?", "Who?"]), lang))
        if rng.random() < 0.5:  # a near or exact copy
            at = rng.randrange(len(text))
            rows.append(answer(text[:at] + rng.choice(["", "x", "猫"]) + text[at + 1 :], rows[-1].question, lang))
        if rng.random() < 0.2:
            rows.append(answer(f" {text.upper()} ", rows[-1].question, lang))
    rng.shuffle(rows)
    return rows


def brute_force(rows, near, scope):
    """Every pair, by the definition."""
    kept, left = [], []
    for row in rows:
        rivals = [one for one in kept if one.lang == row.lang and (scope == "all" or one.question == row.question)]
        exact = [one for one in rivals if fold(one.text) == fold(row.text)]
        close = [one for one in rivals if near is not None and jaccard(grams(one.text), grams(row.text)) >= near]
        (left if exact or close else kept).append(row)
    return kept, left


@pytest.mark.parametrize("near", [None, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("scope", ["group", "all"])
def test_against_every_pair(near, scope):
    for seed in range(3):
        rows = corpus(seed)
        found = dedup(rows, near=near, scope=scope)
        kept, left = brute_force(rows, near, scope)
        assert [one.text for one in found.kept] == [one.text for one in kept]
        assert [one.record.text for one in found.duplicates] == [one.text for one in left]
        for one in found.duplicates:
            assert any(one.of is row for row in found.kept)
            assert one.kind == "exact" or jaccard(grams(one.record.text), grams(one.of.text)) == one.similarity >= near


def test_the_same_answer_to_another_prompt_or_in_another_language_stays():
    rows = [answer("Yes."), answer("Yes.", "Who?"), answer("Yes.", lang="ja"), answer("yes. ")]
    assert len(dedup(rows).kept) == 3
    assert len(dedup(rows, scope="all").kept) == 2
    assert dedup_key(rows[0]) == dedup_key(rows[3]) != dedup_key(rows[1])


def test_a_picture_under_two_identifiers_is_one_prompt():
    rows = [answer("Yes.", image="1"), answer("Yes.", image="2"), answer("Yes.", image="3")]
    assert len(dedup(rows).kept) == 3
    assert [one.image for one in dedup(rows, pictures={"1": "a", "2": "a", "3": "b"}).kept] == ["1", "3"]


@pytest.mark.parametrize("options", [{"near": 0}, {"near": 1.1}, {"near": -1}, {"scope": "prompt"}])
def test_bad_arguments(options):
    with pytest.raises(ValueError):
        dedup([], **options)


def changes():
    image = picture(7, size=(320, 240))
    return {
        "smaller": image.resize((160, 120)),
        "larger": image.resize((500, 375)),
        "compressed": open_rgb(jpeg(image, 30)),
        "brighter": image.point(lambda value: min(255, value + 4)),
    }


def jpeg(image, quality):
    import io

    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.mark.parametrize("change", list(changes()))
def test_a_changed_picture_looks_the_same(change):
    assert look(picture(7, size=(320, 240))).like(look(changes()[change]))


def test_other_pictures_look_different():
    looks = [look(picture(seed)) for seed in range(120)]
    assert not any(a.like(b) for at, a in enumerate(looks) for b in looks[:at])
    assert not look(picture(7).transpose(0)).like(look(picture(7)))
    red, blue = (look(Image.new("RGB", (64, 48), colour)) for colour in ("red", "blue"))
    assert red.dhash == blue.dhash  # plain surfaces have the same bits; their colours tell them apart
    assert not red.like(blue)


def test_the_index_finds_what_comparing_all_finds():
    rng = random.Random(0)
    looks = [look(picture(seed, size=(40, 30))) for seed in range(60)]
    spoiled = [
        type(one)(one.dhash ^ sum(1 << rng.randrange(64) for _ in range(rng.randrange(7))), one.thumbnail)
        for one in looks * 3
    ]
    index, leaders = LookIndex(), []
    for at, one in enumerate(spoiled):
        expected = next((name for name, other in leaders if other.like(one)), str(at))
        if expected == str(at):
            leaders.append((str(at), one))
        assert index.leader(str(at), one) == expected
    assert 60 <= len(leaders) < 160


def test_contents_of_a_folder(tmp_path):
    small = picture(2).resize((80, 60))
    files = [encoded(picture(1)), encoded(picture(2)), encoded(picture(1)), encoded(small, "PNG"), b"broken"]
    for name, data in enumerate(files, start=1):
        (tmp_path / f"{name}.jpg").write_bytes(data)
    found = picture_contents(tmp_path, ["1", "2", "3", "4", "5", "1"])
    assert list(found) == ["1", "2", "3", "4"]
    assert found["1"] == found["3"] != found["2"] == found["4"]
    assert picture_contents(tmp_path, ["1", "2", "3", "4", "5"], workers=2) == found
