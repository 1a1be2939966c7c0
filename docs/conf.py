"""The documentation site. Package pages are generated from packages/: README, then API, claims and changelog."""

import json
import os
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tools"))

from workspace import Package, packages  # noqa: E402

project = "Sail"
author = "The Sail maintainers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
if os.environ.get("SAIL_DOCS_ONLINE"):  # torch's inventory is on the network; without it links to torch are plain text
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {"torch": ("https://docs.pytorch.org/docs/stable/", None)}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Sail"
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
python_display_short_literal_types = True
napoleon_use_ivar = True  # an attribute of a class stands once, as a field of its description
suppress_warnings = ["ref.python"]  # two packages have a class of one name; a link takes one of them


def public_modules(package: Package) -> list[str]:
    """Return the modules whose names a user may import, the package itself first."""
    top = import_module(package.module)
    names = [module.name for module in pkgutil.walk_packages(top.__path__, f"{package.module}.")]
    inner = ("._", ".cli", ".demo")
    return [package.module, *(name for name in names if not any(part in name for part in inner))]


def api(modules: list[str]) -> list[str]:
    """Return the reference of each module; a name that several of them offer stands at the first."""
    parts, seen = [], set[str]()
    for name in modules:
        own = set(getattr(import_module(name), "__all__", ()))
        options = "   :members:\n" + (f"   :exclude-members: {', '.join(sorted(own & seen))}\n" if own & seen else "")
        parts.append(f"### {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n{options}```")
        seen |= own
    return parts


def package_page(package: Package) -> str:
    """Return one package's page: its README is its index page here too."""
    source = f"../../packages/{package.folder}"
    parts = [f"```{{include}} {source}/README.md\n:relative-images:\n:relative-docs: ../../\n```", "## API"]
    parts += api(public_modules(package))
    if (DOCS / "claims" / f"{package.folder}.md").exists():
        parts.append(
            f"## Claims\n\nWhat the papers claim and what was measured: [claims](../claims/{package.folder}.md)."
        )
    changes = ":start-after: '# Changelog'\n:heading-offset: 1"
    parts.append(f"## Changes\n\n```{{include}} {source}/CHANGELOG.md\n{changes}\n```")
    return "\n\n".join(parts) + "\n"


def packages_index() -> str:
    """Return the index of the packages, from their own descriptions."""
    rows = [f"| [{p.folder}]({p.folder}.md) | {p.pyproject['project']['description']} |" for p in packages().values()]
    table = "\n".join(["| package | what it is |", "|---|---|", *rows])
    return f"# Packages\n\n{table}\n\n```{{toctree}}\n:hidden:\n:glob:\n\n*\n```\n"


def matrix_page() -> str:
    """Return the table of `nox -t matrix`: the newest run of each package, Python and torch."""
    path = DOCS.parent / "benchmarks" / "results" / "matrix.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    cells = {(row["package"], row["python"], row["torch"]): row for row in rows}
    table = ["| package | Python | torch | tests | failed | skipped | seconds |", "|---|---|---|---|---|---|---|"]
    for (package, python, torch), row in sorted(cells.items()):
        version = row["versions"].get("torch", torch)
        failed = row["failures"] + row["errors"]
        table.append(
            f"| {package} | {python} | {version} | {row['tests']} | {failed} | {row['skipped']} | {row['seconds']} |"
        )
    told = "Runs of `nox -t matrix`, resolved freely, against built wheels. A pair that is not listed was not run."
    return f"# Tested versions\n\n{told}\n\n" + "\n".join(table) + "\n"


def write_package_pages(*_: object) -> None:
    """Write docs/packages/*.md and docs/matrix.md, which git ignores."""
    (DOCS / "matrix.md").write_text(matrix_page(), encoding="utf-8")
    pages = {package.folder: package_page(package) for package in packages().values()} | {"index": packages_index()}
    (DOCS / "packages").mkdir(exist_ok=True)
    for name, text in pages.items():
        (DOCS / "packages" / f"{name}.md").write_text(text, encoding="utf-8")


def setup(app: object) -> None:
    """Generate the pages before Sphinx looks for them."""
    app.connect("config-inited", write_package_pages)
