import pytest
from downstream import write_wheel
from prior import prior

README = """# scalelong
```sh
pip install "scalelong[extra]"
```
```python
import scalelong
assert scalelong.twice(2) == 4
```
"""


def publish(folder, version="0.1.0", asks="sail-core<0.2,>=0.1"):
    metadata = f"Requires-Dist: {asks}\nProvides-Extra: extra\nRequires-Dist: more; extra == 'extra'\n\n{README}"
    code = "from sail_core import double\n\ndef twice(x):\n    return double(x)\n"
    write_wheel(folder, "scalelong", version, metadata=metadata, modules={"scalelong/__init__.py": code})


@pytest.fixture
def world(tmp_path):
    """An index of what is published, an empty place, and a function that builds a new sail-core."""
    index, built, place = tmp_path / "index", tmp_path / "built", tmp_path / "place"
    for folder in (index, built, place):
        folder.mkdir()
    write_wheel(index, "more", "1.0")
    write_wheel(index, "sail-core", "0.1.0", modules={"sail_core/__init__.py": "raise ImportError('the old core')\n"})
    (tmp_path / "pins.txt").write_text("more==1.0\n")

    def run(core, version="0.1.1"):
        wheel = write_wheel(built, "sail-core", version, modules={"sail_core/__init__.py": core})
        options = ("--no-index", "--find-links", str(index))
        return prior("scalelong", {"sail-core": wheel}, tmp_path / "pins.txt", place, *options)

    return index, run


GOOD = "def double(x):\n    return 2 * x\n"


def test_before_the_first_release_there_is_nothing_to_break(world):
    _, run = world
    assert run(GOOD) == "scalelong: nothing is published yet, so there is nothing that a new sibling could break"


def test_the_newest_published_wheel_runs_with_the_new_sibling(world):
    index, run = world
    publish(index, "0.1.0")
    publish(index, "0.1.2")
    assert run(GOOD) == "scalelong 0.1.2: its README runs with sail_core-0.1.1-py3-none-any.whl"


def test_a_new_sibling_that_breaks_it_is_an_error(world):
    index, run = world
    publish(index)
    with pytest.raises(SystemExit, match=r"the README of the published scalelong 0\.1\.0 fails with sail_core-0\.1\.1"):
        run("def doubled(x):\n    return 2 * x\n")


def test_a_sibling_outside_the_published_range_is_left_alone(world):
    index, run = world
    publish(index)
    assert "asks for sail-core<0.2,>=0.1; what was built here is outside" in run(GOOD, version="0.2.0")
