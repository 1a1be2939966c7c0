"""The page for review: its text, and its behaviour in a real browser."""

import json
import os
import re
import shutil
import zipfile

import pytest
from oogiri_go import build, review
from oogiri_go._synthetic import broken, encoded, picture, write_layout
from sail_testkit.chromium import Browser

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror="document.title=1"><!--<script>\u2028'


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        archive.writestr("1.jpg", encoded(picture(1)))
        archive.writestr("2.jpg", encoded(picture(1).resize((100, 75))))
        archive.writestr("3.jpg", broken("truncated", 3))

    def line(text, star=None, **more):
        return json.dumps(
            {"type": "T2T", "question": "Why?", "image": None, "text": text, "star": star} | more, ensure_ascii=False
        )

    rows = [
        line("The cat is late.", 1), line("The cat is late!", 9), line("A moon of cheese", 5), line(HOSTILE, 2),
        line("One", 3, type="I2T", question=None, image="1"), line("Two", 4, type="I2T", question=None, image="2"),
        line("Three", 7, type="I2T", question=None, image="3"), *(line(f"Filler number {at}") for at in range(80)),
        "{broken",
    ]  # fmt: skip
    (folder / "en.jsonl").write_text("\n".join(rows), "utf-8")
    (folder / "jp.jsonl").write_text(line("月から来た猫", 8), "utf-8")
    return folder


@pytest.fixture(scope="module")
def page(raw, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "review.html"
    assert review(raw, out=path) == 88
    return path


def data_of(path):
    return json.loads(re.search(r"^const data = (.*);$", path.read_text("utf-8"), re.MULTILINE)[1])


def test_the_data_of_the_page(page):
    data = data_of(page)
    assert len(data["records"]) == 88
    assert [one["code"] for one in data["issues"]] == ["json", "image-truncated"]
    assert data["pictures"]["3"] is None
    assert data["pictures"]["1"].startswith("data:image/jpeg;base64,")
    kinds = {(one["kind"], one["a"], one["b"]) for one in data["duplicates"]}
    assert ("near", 0, 1) in kinds or ("exact", 0, 1) in kinds
    assert ("picture", "1", "2") in kinds


def test_the_page_stands_alone_and_text_stays_text(page):
    text = page.read_text("utf-8")
    assert text.count("</script") == text.count("<script") == 1
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "default-src 'none'" in text
    assert "\u2028" not in text
    assert "innerHTML" not in text
    assert "eval(" not in text


def test_the_limit(raw, tmp_path):
    assert review(raw, out=tmp_path / "page.html", limit=10) == 10
    assert data_of(tmp_path / "page.html")["cut"]
    with pytest.raises(ValueError, match="limit"):
        review(raw, out=tmp_path / "page.html", limit=0)
    with pytest.raises(FileNotFoundError):
        review(tmp_path / "no", out=tmp_path / "page.html")


def test_a_build(tmp_path):
    write_layout(tmp_path / "raw", records=300, pictures=20, bad=3, seed=0)
    result = build(tmp_path / "raw", out=tmp_path / "out")
    assert review(result.path, out=tmp_path / "page.html") == sum(result.rows.values())
    data = data_of(tmp_path / "page.html")
    assert {one["split"] for one in data["records"]} == {"train", "validation", "test"}
    assert all(source for source in data["pictures"].values())
    assert review(result.path, out=tmp_path / "page.html", limit=50) <= 50
    assert {one["split"] for one in data_of(tmp_path / "page.html")["records"]} == {"train", "validation", "test"}


@pytest.fixture
def browser(tmp_path):
    program = os.environ.get("SAIL_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium on PATH or in SAIL_BROWSER")
    browser = Browser(program, tmp_path / "profile")
    yield browser
    browser.close()


@pytest.mark.browser
@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_in_a_real_browser(browser, page):
    cards, status = "document.querySelectorAll('article.card').length", "document.querySelector('#status').textContent"
    texts = "[...document.querySelectorAll('.text')].map(one => one.textContent)"

    def choose(name, value):
        browser.evaluate(
            f"(() => {{ const list = document.querySelector('#{name}'); list.value = {value!r};"
            " list.dispatchEvent(new Event('change')); })()"
        )

    browser.open(page.as_uri())
    assert browser.evaluate("document.title").startswith("Review of raw")
    assert browser.evaluate(status) == "88 of 88 records"
    assert browser.evaluate(cards) == 60
    assert browser.evaluate("document.querySelector('#page').textContent") == "page 1 of 2"
    assert HOSTILE in browser.evaluate(texts)  # shown as text
    assert browser.evaluate("document.scripts.length") == 1

    browser.click("#next")
    assert browser.evaluate(cards) == 28
    assert browser.evaluate("document.querySelector('#next').disabled")
    browser.click("#back")

    browser.click("#search")
    browser.type("MOON")
    assert browser.evaluate(status) == "1 of 88 records"
    assert browser.evaluate(texts) == ["A moon of cheese"]
    assert browser.evaluate("document.querySelector('mark').textContent") == "moon"
    browser.evaluate(
        "(() => { const field = document.querySelector('#search');"
        " field.value = ''; field.dispatchEvent(new Event('input')); })()"
    )
    assert browser.evaluate(status) == "88 of 88 records"

    choose("lang", "ja")
    assert browser.evaluate(texts) == ["月から来た猫"]
    choose("lang", "")
    choose("picture", "yes")
    assert sorted(browser.evaluate(texts)) == ["One", "Three", "Two"]
    shown = browser.evaluate("[...document.images].filter(one => one.complete && one.naturalWidth > 0).length")
    assert shown == 2
    assert browser.evaluate("document.querySelectorAll('.nopicture').length") == 1
    choose("type", "T2T")
    assert browser.evaluate(status) == "0 of 88 records"
    choose("picture", "")
    choose("order", "star")
    assert browser.evaluate(texts)[0] == "The cat is late!"
    choose("type", "")

    browser.click("#tab-duplicates")
    pairs = browser.evaluate(
        "[...document.querySelectorAll('.pair')].map(one => [one.dataset.kind, one.querySelectorAll('article').length])"
    )
    assert ["picture", 2] in pairs
    assert any(kind in ("near", "exact") for kind, _ in pairs)
    assert all(count == 2 for _, count in pairs)
    left, right = browser.evaluate(
        "[...document.querySelectorAll('.pair article')].slice(0, 2).map(one => one.getBoundingClientRect().x)"
    )
    assert left < right  # side by side

    browser.click("#tab-issues")
    assert browser.evaluate(
        "[...document.querySelectorAll('tr.issue td:nth-child(3)')].map(one => one.textContent)"
    ) == ["json", "image-truncated"]

    bad = [one for one in browser.events if one.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert bad == []
    requests = [
        one["params"]["request"]["url"] for one in browser.events if one.get("method") == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith(("data:", page.as_uri()))] == []
