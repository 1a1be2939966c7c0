"""Every block of the guides runs, in order, in a folder of its own; the built site is whole and finds every name."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

DOCS = Path(__file__).resolve().parent
SITE = DOCS / "_build" / "html"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSTALL = ("pip install", "uv pip install")
# One process runs a page: Python in one namespace, shell commands in the same folder.
RUNNER = """
import json, subprocess, sys
space = {"__name__": "__main__"}
for kind, text in json.load(sys.stdin):
    if kind == "sh":
        subprocess.run(["bash", "-euc", text], check=True)
    else:
        exec(compile(text, "<page>", "exec"), space)
"""


PAGES = ["index.md", *(f"guides/{path.name}" for path in sorted(DOCS.glob("guides/*.md")) if path.stem != "index")]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page, tmp_path):
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    blocks = [block for block in blocks if not block[1].startswith(INSTALL)]
    assert any(kind == "python" for kind, _ in blocks), "the page shows no Python"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-W", "error", "-c", RUNNER]
    setup = (DOCS / page).with_suffix(".py")
    if setup.exists():
        subprocess.run([sys.executable, "-P", setup], cwd=tmp_path, env=environment, check=True, capture_output=True)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, input=json.dumps(blocks), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


class Page(HTMLParser):
    """What a page of the built site links to and shows, and the places that a link can lead to."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.places = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):  # noqa: D102 - the parser's own
        found = dict(attrs)
        self.places |= {found.get("id"), found.get("name")}
        if tag != "link" or found.get("rel") == "stylesheet":
            self.targets += [found[name] for name in ("href", "src") if found.get(name)]


@cache
def page_at(path):
    return Page(path)


def dead_links(site):
    """Return "page -> target" of what leads nowhere within a built site."""
    dead = []
    for path in site.rglob("*.html"):
        for target in page_at(path).targets:
            address = urlsplit(target)
            if address.scheme or address.netloc:
                continue
            to = (path.parent / unquote(address.path)).resolve() if address.path else path
            there = to.is_file() and (
                not address.fragment or to.suffix != ".html" or unquote(address.fragment) in page_at(to).places
            )
            if not there:
                dead.append(f"{path.relative_to(site)} -> {target}")
    return dead


def test_no_link_within_the_site_is_dead():
    assert len(list(SITE.rglob("*.html"))) > 40
    assert dead_links(SITE) == []


def test_a_dead_link_is_seen(tmp_path):
    (tmp_path / "a.html").write_text('<p id="here"><a href="#here">1</a><a href="#gone">2</a><img src="no.svg"></p>')
    (tmp_path / "b.html").write_text(
        '<a href="a.html#here">1</a><a href="https://x.example/y">2</a><a href="c.html"></a>'
    )
    assert sorted(dead_links(tmp_path)) == ["a.html -> #gone", "a.html -> no.svg", "b.html -> c.html"]


def test_no_page_shows_a_formula_as_its_source():
    shown = re.compile(r"\$\$|\\(?:frac|sum|mathrm|sigma|kappa)\b")
    assert [str(path) for path in SITE.rglob("*.html") if shown.search(path.read_text(encoding="utf-8"))] == []
    assert "<math" in (SITE / "concepts" / "dia-attention.html").read_text(encoding="utf-8")


def unfound(index, names):
    """Return the names that the search index does not hold as an object at exactly that place."""
    objects = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)", index, re.DOTALL)[1])["objects"]
    listed = {f"{place}.{row[4]}" if place else row[4] for place, rows in objects.items() for row in rows}
    return [name for name in names if name not in listed]


def test_search_finds_every_public_name():
    sys.path.insert(0, str(DOCS.parent / "tools"))
    from workspace import packages

    names = [
        f"{package.module}.{name}"
        for package in packages().values()
        for name in import_module(package.module).__all__
        if not name.startswith("__")
    ]
    index = (SITE / "searchindex.js").read_text(encoding="utf-8")
    assert len(names) > 200
    assert unfound(index, names) == []
    assert unfound(index, ["attsolver.no_such_name"]) == ["attsolver.no_such_name"]


def test_every_package_has_its_pages():
    sys.path.insert(0, str(DOCS.parent / "tools"))
    from workspace import packages

    for folder in packages():
        for page in (
            f"packages/{folder}",
            f"packages/{folder}/api",
            f"packages/{folder}/changes",
            f"concepts/{folder}",
        ):
            assert (SITE / f"{page}.html").is_file(), page
        concept = (SITE / "concepts" / f"{folder}.html").read_text(encoding="utf-8")
        assert "<math" in concept
        assert ".svg" in concept, f"{folder} shows no figure"
        assert folder == "sail-core" or (SITE / "claims" / f"{folder}.html").is_file()
