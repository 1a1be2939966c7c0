import json
import os
import re
import shutil
import struct
import subprocess

import pytest
from demo_page import main

REPORT = {
    "package": "some-package",
    "version": "0.1.0",
    "seed": 0,
    "profile": "default",
    "device": "cpu",
    "env": {},
    "seconds": 12.3,
    "metrics": {
        "parameters": 1234,
        "accuracy": [{"net": "plain", "mean": 0.91234, "seeds": [0.9, 0.92]}, {"net": "dia", "mean": None}],
        "nested": {"a": [1, 2]},
    },
    "verdicts": [
        {"claim": "x < y", "expected": "> 0", "measured": 0.5, "interval": [0.1, 0.9], "holds": True},
        {"claim": "undecided one", "expected": "> 0", "measured": None, "interval": None, "holds": None},
    ],
    "figures": ["curve.svg", "curve.png"],
}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 30"><rect width="90" height="30" fill="#0072B2"/></svg>'


@pytest.fixture
def demos(tmp_path):
    (tmp_path / "some-package").mkdir()
    (tmp_path / "some-package" / "report.json").write_text(json.dumps(REPORT))
    (tmp_path / "some-package" / "curve.svg").write_text(SVG)
    main(tmp_path)
    return tmp_path


def test_the_page_shows_verdicts_tables_and_figures(demos):
    text = (demos / "index.html").read_text()
    assert "x &lt; y" in text, "text is escaped"
    assert "[0.1, 0.9]" in text
    assert '<span class="badge yes">holds</span>' in text
    assert '<span class="badge open">undecided</span>' in text
    assert "0.9123" in text
    assert text.count('<img src="some-package/curve.svg"') == 1, "SVG and PNG are one figure"
    assert not re.search(r'(src|href)="https?:', text), "the page fetches nothing"


def test_a_missing_report_leaves_an_honest_page(tmp_path):
    main(tmp_path)
    assert "0 of the packages" in (tmp_path / "index.html").read_text()


@pytest.mark.browser
def test_the_page_renders_in_a_browser(demos):
    program = os.environ.get("SAIL_BROWSER") or shutil.which("chromium")
    if program is None:
        pytest.skip("no Chromium on PATH or in SAIL_BROWSER")
    quiet = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]
    shot = demos / "page.png"
    place = [f"--user-data-dir={demos / 'profile'}", f"--screenshot={shot}", "--window-size=1000,1400"]
    page = (demos / "index.html").as_uri()
    subprocess.run(
        [program, *quiet, "--disable-sync", "--disable-component-update", *place, page], check=True, timeout=60
    )
    width, height = struct.unpack(">II", shot.read_bytes()[16:24])
    assert (width, height) == (1000, 1400)
    dom = subprocess.run([program, *quiet, *place[:1], "--dump-dom", page], check=True, timeout=60, capture_output=True)
    assert b"some-package" in dom.stdout
