import json
import subprocess
import sys

import pytest
from changed import affected, changed_paths
from release import notes
from workspace import ROOT, Package, canonical, closure, packages


def test_names_are_normalised():
    assert canonical("Scikit_Learn[x]>=1 ; python_version>'3'") == "scikit-learn"
    assert canonical("dia-attention[demo,timm]") == "dia-attention"


def test_a_change_reaches_the_dependants_only():
    everything = sorted(packages())
    assert affected(["packages/dia-attention/src/x.py"]) == ["dia-attention"]
    assert "dia-attention" in affected(["packages/sail-core/README.md"])
    assert affected(["uv.lock"]) == everything
    assert affected(["packages/removed-package/x.py"]) == everything
    assert affected([]) == []


def test_changed_prints_the_list_of_a_git_range(tmp_path):
    command = [sys.executable, ROOT / "tools" / "changed.py", "HEAD"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []


def test_a_base_that_is_not_known_affects_everything(tmp_path):
    command = [sys.executable, ROOT / "tools" / "changed.py", "0" * 40]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == sorted(packages())


def test_a_moved_file_and_odd_names_are_seen(tmp_path):
    def git(*words):
        who = ["-c", "user.name=x", "-c", "user.email=x@example.invalid"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "packages" / "a").mkdir(parents=True)
    (tmp_path / "packages" / "a" / "moved here.py").write_text("same\n" * 50)
    git("init", "--quiet")
    git("add", ".")
    git("commit", "-m", "before")
    (tmp_path / "packages" / "b").mkdir()
    git("mv", "packages/a/moved here.py", "packages/b/é.py")
    git("commit", "-m", "after")
    assert changed_paths("HEAD~1", tmp_path) == ["packages/a/moved here.py", "packages/b/é.py"]


def test_a_closure_follows_extras_only_when_asked():
    core, dia = packages()["sail-core"], packages()["dia-attention"]
    assert closure(dia) == [dia, core]
    assert closure(dia, extras=False) == [dia, core]
    assert closure(core) == [core]


def member(tmp_path, **files):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "sail-clot"\nversion = "0.2.0"\n')
    for name, text in files.items():
        (tmp_path / f"{name}.md").write_text(text)
    return Package(tmp_path)


def test_the_readmes_install_line_is_found(tmp_path):
    found = member(tmp_path, README='```sh\npip install "sail-clot[hf,train]"\n```\n').install_line
    assert found == "sail-clot[hf,train]"
    with pytest.raises(ValueError, match="no line"):
        _ = member(tmp_path, README="nothing").install_line


def test_a_release_needs_tag_version_and_changelog_to_agree():
    core = packages()["sail-core"]
    assert notes(f"sail-core-v{core.version}")
    with pytest.raises(ValueError, match="is not <distribution>-vX"):
        notes("no-such-package-v1.0.0")
    with pytest.raises(ValueError, match="does not release the version"):
        notes("sail-core-v99.0.0")
