"""Law 4: every wheel is pure Python, typed, and equals src/."""

import re

SIZE_LIMIT = {"sail-core": 100_000}  # bytes; the core is thin by contract


def test_wheel_is_pure_python(wheel):
    assert wheel.filename.endswith("-py3-none-any.whl")


def test_wheel_holds_the_package_and_nothing_else(wheel, package):
    allowed = re.compile(
        rf"({re.escape(package.module)}|{re.escape(package.dist.replace('-', '_'))}-[^/]+\.dist-info)/"
    )
    strange = [name for name in wheel.namelist() if not allowed.match(name)]
    assert not strange, f"the wheel holds {strange}"


def test_wheel_equals_the_source(wheel, package, source):
    files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {f"{package.module}/{path.relative_to(source).as_posix()}": path.read_bytes() for path in files}
    packed = {name: wheel.read(name) for name in wheel.namelist() if name.startswith(f"{package.module}/")}
    assert packed.keys() == expected.keys()
    assert [name for name in packed if packed[name] != expected[name]] == []


def test_wheel_is_typed(wheel, package):
    assert f"{package.module}/py.typed" in wheel.namelist()


def test_wheel_is_small(wheel, package):
    size = sum(entry.compress_size for entry in wheel.infolist())
    assert size < SIZE_LIMIT.get(package.folder, 1_000_000)


def test_files_are_short_and_named_for_their_idea(source):
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in source.rglob("*.py")}
    assert {str(path): length for path, length in lengths.items() if length > 500} == {}
    assert [path for path in lengths if path.stem in {"utils", "helpers", "common", "misc"}] == []
    assert lengths[source / "__init__.py"] < 40
