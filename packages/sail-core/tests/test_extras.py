"""needs() translates absence, and nothing else."""

from __future__ import annotations

import importlib
import sys

import pytest
from sail_core.extras import MissingExtra, needs


def test_an_absent_host():
    with pytest.raises(MissingExtra) as caught, needs("dia-attention", "demo"):
        from no_such_host.part import name  # noqa: F401
    assert str(caught.value) == "dia-attention demo needs no_such_host: pip install 'dia-attention[demo]'"
    assert caught.value.name == "no_such_host"
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_other_ways_to_import_and_to_block():
    with pytest.raises(MissingExtra, match="needs no_such_host"), needs("a", "b"):
        from no_such_host import name  # noqa: F401
    with pytest.raises(MissingExtra, match="needs no_such_host"), needs("a", "b"):
        importlib.import_module("no_such_host.part")


def test_a_host_that_is_blocked(monkeypatch):
    monkeypatch.setitem(sys.modules, "json", None)
    with pytest.raises(MissingExtra, match="needs json"), needs("a", "b"):
        import json  # noqa: F401


def test_a_host_that_is_there():
    with needs("a", "b"):
        import json
    assert json.loads("1") == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("import its_own_missing_dependency", ModuleNotFoundError),
        ("from json import no_such_name", ImportError),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", ImportError),
        ("raise RuntimeError('no driver')", RuntimeError),
    ],
)
def test_a_broken_host_speaks_for_itself(tmp_path, monkeypatch, content, kind):
    (tmp_path / "broken_host.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(kind) as caught, needs("a", "b"):
        import broken_host  # noqa: F401
    assert not isinstance(caught.value, MissingExtra)
    assert caught.value.__cause__ is None


def test_a_host_without_the_part_or_the_name():
    with pytest.raises(ModuleNotFoundError, match=r"json\.no_such_part") as caught, needs("a", "b"):
        from json.no_such_part import name  # noqa: F401
    assert not isinstance(caught.value, MissingExtra)
    with pytest.raises(ImportError, match="no_such_name") as other, needs("a", "b"):
        from json import no_such_name  # noqa: F401
    assert not isinstance(other.value, MissingExtra)


def test_errors_of_the_block_itself_pass():
    with pytest.raises(KeyError), needs("a", "b"):
        raise KeyError("x")


def test_report_and_command_name_their_extra(monkeypatch, capsys):
    from sail_core.command import main
    from sail_core.report import figure_style, paired_interval

    monkeypatch.delitem(sys.modules, "scipy.special", raising=False)
    for name in ("matplotlib", "scipy", "tyro"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"needs scipy: pip install 'sail-core\[report\]'"):
        paired_interval([1.0, 2.0])
    with pytest.raises(MissingExtra, match=r"needs matplotlib: pip install 'sail-core\[report\]'"), figure_style():
        pass
    assert main({}, prog="x", description="", argv=[]) == 2
    assert capsys.readouterr().err == "x: sail-core command needs tyro: pip install 'sail-core[command]'\n"
