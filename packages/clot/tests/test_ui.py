"""The page: what it shows, and its behaviour in a real browser."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from clot import CLoTPipeline, NounSet

sys.path.insert(0, str(Path(__file__).parent))
from joker import NOUNS, Joker, judge, write
from PIL import Image
from sail_testkit.chromium import Browser

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of gradio and what it imports
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SET = NounSet.from_words(NOUNS, "en")
HOSTILE = "<img src=x onerror=document.title='owned'> & thing0"


def answer(request, at):
    if request.prompt.image is not None:
        return f"thing0 in picture {request.seed % 997}"
    return write(request, at)


def score(prompt, letter):
    return judge(prompt, letter) if "thing" in prompt.text.partition("Options:")[0] else -1.0


@pytest.fixture(scope="module")
def pipeline():
    return CLoTPipeline(Joker(answer=answer, logprob=score), SET)


def test_the_table_escapes_and_sorts(pipeline):
    from clot.integrations.gradio import _shown

    leap = pipeline(question="Why is thing0 late?")
    html = _shown(leap, pipeline, None, "Why is thing0 late?", "en", HOSTILE)
    assert "<img" not in html
    assert "&lt;img src=x onerror" in html
    assert html.count("<tr class=") == 6
    assert html.count("class='yours'") == 1
    assert html.index("class='chosen'") < html.index("</tr>", html.index("<tbody>"))  # the chosen is the first
    assert "class='yours'" not in _shown(leap, pipeline, None, "Why is thing0 late?", "en", "")


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
def test_in_a_real_browser(browser, pipeline, tmp_path):
    from clot.integrations.gradio import play

    blocks = play(pipeline, block=False)
    try:
        browser.open(blocks.local_url)
        text = "document.querySelector('.clot-answer')?.textContent"
        rows = "document.querySelectorAll('.clot-table tbody tr').length"
        column = "[...document.querySelectorAll('.clot-table tbody td:nth-child({})')].map(one => one.textContent)"
        browser.click("#clot-go")
        browser.wait("document.body.innerText.includes('there is nothing to answer')")
        browser.fill("#clot-question textarea", "Why is thing0 late?")
        browser.click("#clot-go")
        leap = pipeline(question="Why is thing0 late?")
        assert browser.wait(text) == leap.text
        assert browser.evaluate(rows) == 5
        shown = browser.evaluate(column.format(3))
        assert sorted(shown) == sorted(one.condition or "-" for one in leap.proposals)
        scores = [float(one) for one in browser.evaluate(column.format(4))]
        assert scores == sorted(scores, reverse=True)

        browser.fill("#clot-yours textarea", HOSTILE)
        browser.click("#clot-go")
        browser.wait(f"{rows} === 6")
        assert browser.evaluate("document.querySelector('tr.yours td:nth-child(2)').textContent") == HOSTILE
        assert browser.evaluate("document.title") == "Oogiri with CLoT"
        if os.environ.get("SAIL_SCREENSHOTS"):
            browser.picture(Path(os.environ["SAIL_SCREENSHOTS"], "clot-ui.png"))

        browser.clear("#clot-yours textarea")
        browser.clear("#clot-question textarea")
        Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
        browser.upload("#clot-picture input[type=file]", tmp_path / "red.png")
        browser.wait("document.querySelector('#clot-picture img')?.naturalWidth > 0")
        browser.click("#clot-go")
        browser.wait(f"{text}?.startsWith('thing0 in picture')")
        assert browser.evaluate(rows) == 5

        asked = [
            one["params"]["request"]["url"]
            for one in browser.events
            if one.get("method") == "Network.requestWillBeSent"
        ]
        local = (blocks.local_url, "data:", "blob:")
        assert [url for url in asked if not url.startswith(local)] == []
    finally:
        blocks.close()
