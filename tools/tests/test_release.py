import re
import subprocess
import sys

import pytest
from downstream import write_wheel
from published import main, newest, siblings_needed, unmet
from release import index_page
from workspace import ROOT, Package, packages

ADDRESS = "https://code.example/sail"


def package(tmp_path, readme, requirement="sail-core>=0.1,<0.2"):
    folder = tmp_path / "packages" / "dia-attention"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "dia-attention"\nversion = "0.1.0"\ndependencies = ["{requirement}", "tqdm>=4"]\n'
        '[project.optional-dependencies]\nall = ["dia-attention[demo]"]\n'
    )
    (folder / "README.md").write_text(readme)
    return Package(folder)


def test_links_of_an_index_page_are_absolute_and_name_the_tag(tmp_path):
    readme = "![A](../../docs/assets/a.svg) [c](../../docs/c.md) [w](https://w.example) [h](#here) <this repository>"
    assert index_page(package(tmp_path, readme), ADDRESS) == (
        f"![A]({ADDRESS}/raw/dia-attention-v0.1.0/docs/assets/a.svg) "
        f"[c]({ADDRESS}/blob/dia-attention-v0.1.0/docs/c.md) [w](https://w.example) [h](#here) {ADDRESS}"
    )


def test_without_an_address_a_readme_stays(tmp_path, monkeypatch):
    monkeypatch.delenv("SAIL_REPOSITORY", raising=False)
    assert index_page(package(tmp_path, "[c](../../docs/c.md)")) == "[c](../../docs/c.md)"
    monkeypatch.setenv("SAIL_REPOSITORY", ADDRESS)
    assert ADDRESS in index_page(Package(tmp_path / "packages" / "dia-attention"))


@pytest.mark.parametrize("member", packages().values(), ids=lambda member: member.folder)
def test_every_link_of_an_index_page_leads_to_a_file(member):
    text = index_page(member, ADDRESS)
    paths = re.findall(rf"\]\({ADDRESS}/(?:raw|blob)/{member.dist}-v[\d.]+/([^)#\s]+)", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert any(path.endswith(".svg") for path in paths), "the README shows no figure"
    assert "](../" not in text


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    return folder, ("--no-index", "--find-links", str(folder))


def test_the_newest_version_within_a_range(index):
    folder, options = index
    assert newest("sail-core>=0.1,<0.2", *options) is None
    for version in ("0.1.0", "0.1.3", "0.2.0"):
        write_wheel(folder, "sail-core", version)
    assert newest("sail-core>=0.1,<0.2", *options) == "0.1.3"
    assert newest("sail-core", *options) == "0.2.0"
    assert newest("sail-core>=0.3", *options) is None


def test_an_index_that_cannot_be_reached_is_no_empty_index(tmp_path):
    with pytest.raises(RuntimeError, match="could not look for sail-core"):
        newest("sail-core", "--default-index", "http://127.0.0.1:9/nothing")


def test_a_dependant_waits_for_what_it_needs(tmp_path, index):
    folder, options = index
    member = package(tmp_path, "")
    assert siblings_needed(member) == ["sail-core>=0.1,<0.2"]
    write_wheel(folder, "sail-core", "0.2.0")
    assert unmet(member, *options) == ["sail-core>=0.1,<0.2"]
    write_wheel(folder, "sail-core", "0.1.0")
    assert unmet(member, *options) == []


def test_a_release_that_comes_too_early_says_what_to_release_first(index, capsys):
    _, options = index
    with pytest.raises(SystemExit, match=r"sail-core>=0.1,<0.2, which no index offers yet. Release that first"):
        main("dia-attention-v0.1.0", *options)
    main("sail-core-v0.1.0", *options)
    assert "no sibling" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="names no package"):
        main("nothing-v0.1.0", *options)


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_actions_and_put_no_expression_into_a_shell(path):
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []
    runs = re.findall(r"run: (?:[>|]-?\n((?:\s{10,}.*\n?)+)|(.*))", text)
    assert runs
    assert not any("${{" in part for parts in runs for part in parts)
    assert re.search(r"^permissions:\n  contents: read\n", text, re.MULTILINE)


def test_the_job_with_credentials_builds_nothing():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    body = text.partition("\njobs:\n")[2]
    jobs = dict(re.findall(r"^  (\w+):\n(.*?)(?=^  \w+:\n|\Z)", body, re.MULTILINE | re.DOTALL))
    assert set(jobs) == {"build", "publish", "announce"}
    assert "id-token" not in jobs["build"]
    assert ": write" not in jobs["build"]
    assert re.findall(r"[\w-]+: write", jobs["publish"]) == ["id-token: write"]
    assert "run:" not in jobs["publish"]
    assert "checkout" not in jobs["publish"]
    assert re.findall(r"[\w-]+: write", jobs["announce"]) == ["contents: write"]


def test_a_release_is_checked_as_a_script():
    command = [sys.executable, ROOT / "tools" / "release.py", "dia-attention-v99.0.0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "release: " in done.stderr
