"""The page for raters: blinded, alone, harmless, and working in a real browser; and the tally."""

import base64
import io
import json
import os
import re
import shutil

import pytest
from PIL import Image
from sail_testkit.chromium import Browser
from sur_adapter import mcnemar, tally, write_pairs_page

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror="document.title=1"><!--<script>\u2028'
ADAPTER, BASE = (0, 114, 178), (230, 159, 0)


@pytest.fixture
def page(tmp_path):
    prompts = [HOSTILE, *(f"prompt {number}" for number in range(11))]
    pictures = [[Image.new("RGB", (8, 8), colour) for _ in prompts] for colour in (BASE, ADAPTER)]
    return write_pairs_page(tmp_path / "pairs.html", prompts, *pictures, seed=3)


def data_of(path):
    return json.loads(re.search(r"^const data = (.*);$", path.read_text("utf-8"), re.MULTILINE)[1])


def colour_of(url):
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))).getpixel((0, 0))


def test_the_page_stands_alone_and_text_stays_text(page):
    text = page.read_text("utf-8")
    assert text.count("</script") == text.count("<script") == 1
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "default-src 'none'" in text
    assert "innerHTML" not in text
    assert text.isascii()


def test_sides_are_drawn_and_the_code_is_right(page):
    pairs = data_of(page)["pairs"]
    assert sorted(pair["prompt"] for pair in pairs) != [pair["prompt"] for pair in pairs]  # another order
    places = []
    for number, pair in enumerate(pairs):
        at = (pair["code"] + number) % 2
        assert colour_of(pair["images"][at]) == ADAPTER
        assert colour_of(pair["images"][1 - at]) == BASE
        places.append((at, pair["order"]))
    assert len(set(places)) == 4


def test_names_of_the_systems_do_not_stand_beside_pictures(page):
    assert not re.search("adapter|base[^6]", json.dumps(data_of(page)["pairs"]))


def test_the_same_seed_gives_the_same_page(page, tmp_path):
    pictures = [[Image.new("RGB", (8, 8), colour) for _ in range(12)] for colour in (BASE, ADAPTER)]
    prompts = [HOSTILE, *(f"prompt {number}" for number in range(11))]
    again = write_pairs_page(tmp_path / "again.html", prompts, *pictures, seed=3)
    other = write_pairs_page(tmp_path / "other.html", prompts, *pictures, seed=4)
    assert again.read_bytes() == page.read_bytes() != other.read_bytes()


def test_pairs_must_be_pairs(tmp_path):
    picture = Image.new("RGB", (8, 8))
    for prompts, base, adapter in (([], [], []), (["a"], [picture], []), (["a", "b"], [picture], [picture])):
        with pytest.raises(ValueError, match="as many"):
            write_pairs_page(tmp_path / "page.html", prompts, base, adapter)


def ratings(path, page, winners):
    lines = [f"{page},{number},left,{winner}" for number, winner in enumerate(winners)]
    path.write_text("page,pair,choice,winner\n" + "\n".join(lines) + "\n")
    return path


def test_tally_of_several_raters(tmp_path):
    one = ratings(tmp_path / "1.csv", "abc", ["adapter"] * 6 + ["base", "tie"])
    two = ratings(tmp_path / "2.csv", "abc", ["adapter"] * 5 + ["base", "base", "base"])
    found = tally([one, two])
    assert (found.adapter, found.base, found.tie, found.raters) == (11, 4, 1, 2)
    assert found.p == mcnemar(5, 2)  # pair 5 is a draw between the raters


def test_tally_refuses_what_it_does_not_know(tmp_path):
    one = ratings(tmp_path / "1.csv", "abc", ["adapter"])
    with pytest.raises(ValueError, match="one page at a time"):
        tally([one, ratings(tmp_path / "2.csv", "xyz", ["base"])])
    with pytest.raises(ValueError, match="winner 'me'"):
        tally([ratings(tmp_path / "3.csv", "abc", ["me"])])
    with pytest.raises(ValueError, match="no ratings"):
        tally([])
    (tmp_path / "4.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"4\.csv has no ratings"):
        tally([tmp_path / "4.csv"])
    with pytest.raises(FileNotFoundError):
        tally([tmp_path / "5.csv"])


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
def test_in_a_real_browser(browser, page, tmp_path):
    colours = """(async () => Promise.all(['left', 'right'].map(async side => {
        const image = document.querySelector(`#${side}-image`);
        await image.decode();
        const canvas = document.createElement('canvas'), context = canvas.getContext('2d');
        context.drawImage(image, 0, 0);
        return Array.from(context.getImageData(0, 0, 1, 1).data.slice(0, 3));
    })))()"""

    browser.open(page.as_uri())
    assert browser.evaluate("document.title") == "Which picture fits the prompt better?"
    assert browser.evaluate("document.scripts.length") == 1
    assert browser.evaluate("document.querySelector('#finish').disabled")
    assert browser.evaluate("document.querySelector('#result').hidden")
    prompts, expected, sides = [], {"adapter": 0, "base": 0, "tie": 0}, set()
    for number in range(12):
        assert browser.text("#where") == f"{number + 1} of 12"
        prompts.append(browser.text("#prompt"))
        left, right = (tuple(one) for one in browser.evaluate(colours))
        assert {left, right} == {ADAPTER, BASE}
        sides.add(left)
        if number < 8:  # the adapter's picture, by mouse and by key
            side = "left" if left == ADAPTER else "right"
            if number % 2:
                browser.click(f"#{side}")
            else:
                browser.press("1" if side == "left" else "2")
            expected["adapter"] += 1
        elif number < 10:
            browser.press("1" if left == BASE else "2")
            expected["base"] += 1
        elif number == 10:
            browser.press("0")
            expected["tie"] += 1
            browser.press("Backspace")  # back, and it is still marked
            assert browser.text("#where") == "11 of 12"
            assert browser.evaluate("document.querySelector('#tie').getAttribute('aria-pressed')") == "true"
            browser.click("#tie")
        else:
            browser.click("#finish")  # one is left out
    assert sides == {ADAPTER, BASE}
    assert HOSTILE in prompts  # shown as text
    assert browser.evaluate("document.title") == "Which picture fits the prompt better?"
    table = "[...document.querySelectorAll('#tally tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    assert browser.evaluate(table) == [["adapter", "8"], ["base", "2"], ["neither", "1"], ["not rated", "1"]]
    assert browser.text("#sign") == f"Sign test, two-sided: p = {mcnemar(8, 2):.3g}"

    saved = tmp_path / "ratings.csv"
    saved.write_text(browser.evaluate("csv()"))
    found = tally([saved])
    assert (found.adapter, found.base, found.tie) == tuple(expected.values())
    assert found.p == mcnemar(8, 2)
    assert browser.evaluate("document.querySelector('#rating').hidden")

    bad = [one for one in browser.events if one.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert bad == []
    requests = [
        one["params"]["request"]["url"] for one in browser.events if one.get("method") == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith(("data:", page.as_uri()))] == []
