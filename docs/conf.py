"""The documentation site. The pages of a package are generated from packages/: README, API and changelog."""

import json
import os
import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tools"))

from workspace import Package, packages  # noqa: E402

project = "Sail"
author = "The Sail maintainers"
copyright = f"2026, {author}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
if os.environ.get("SAIL_DOCS_ONLINE"):  # torch's inventory is on the network; without it links to torch are plain text
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {"torch": ("https://docs.pytorch.org/docs/stable/", None)}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Sail"
html_static_path = ["assets/site"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"  # a browser draws it by itself: no script, nothing from a network
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
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n{options}```")
        seen |= own
    return parts


def package_pages(package: Package) -> dict[str, str]:
    """Return one package's pages by name: its README is its index page here too."""
    folder, source = package.folder, f"packages/{package.folder}"
    readme = f"```{{include}} ../../{source}/README.md\n:relative-images:\n:relative-docs: ../../\n```"
    links = [f"[the mathematics](../concepts/{folder}.md)", f"[every public name]({folder}/api.md)"]
    if (DOCS / "claims" / f"{folder}.md").exists():
        links.append(f"[claims and what was measured](../claims/{folder}.md)")
    links.append(f"[changes]({folder}/changes.md)")
    tree = f"```{{toctree}}\n:hidden:\n\nAPI <{folder}/api>\nChanges <{folder}/changes>\n```"
    changes = f"```{{include}} ../../../{source}/CHANGELOG.md\n:start-after: '# Changelog'\n```"
    return {
        folder: f"{readme}\n\n## Read on\n\n{', '.join(links)}.\n\n{tree}\n",
        f"{folder}/api": f"# {folder}: API\n\n" + "\n\n".join(api(public_modules(package))) + "\n",
        f"{folder}/changes": f"# {folder}: changes\n\n{changes}\n",
    }


def packages_index() -> str:
    """Return the index of the packages, from their own descriptions."""
    rows = []
    for folder, package in packages().items():
        links = [
            f"[mathematics](../concepts/{folder}.md)",
            f"[API]({folder}/api.md)",
            f"[changes]({folder}/changes.md)",
        ]
        if (DOCS / "claims" / f"{folder}.md").exists():
            links.insert(2, f"[claims](../claims/{folder}.md)")
        what = package.pyproject["project"]["description"]
        rows.append(f"| [{folder}]({folder}.md) | {what} | {', '.join(links)} |")
    table = "\n".join(["| package | what it is | its other pages |", "|---|---|---|", *rows])
    return f"# Packages\n\n{table}\n\n```{{toctree}}\n:hidden:\n:glob:\n\n*\n```\n"


def matrix_page() -> str:
    """Return the results of `nox -t matrix`: the newest run of each package, Python and torch, in short and in full."""
    path = DOCS.parent / "benchmarks" / "results" / "matrix.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    cells = {(row["package"], row["python"], row["torch"]): row for row in rows}
    pairs = sorted({(python, torch) for _, python, torch in cells}, key=lambda pair: (pair[0], oldest_first(pair[1])))
    short = [
        "| package | " + " | ".join(f"{python}, {torch}" for python, torch in pairs) + " |",
        "|---" * len(pairs) + "|---|",
    ]
    for name in packages():
        found = [cells.get((name, *pair)) for pair in pairs]
        short.append(f"| {name} | " + " | ".join("not run" if row is None else outcome(row) for row in found) + " |")
    full = ["| package | Python | torch | tests | failed | skipped | seconds |", "|---|---|---|---|---|---|---|"]
    for (package, python, torch), row in sorted(
        cells.items(), key=lambda cell: (*cell[0][:2], oldest_first(cell[0][2]))
    ):
        version = row["versions"].get("torch", torch)
        failed = row["failures"] + row["errors"]
        full.append(
            f"| {package} | {python} | {version} | {row['tests']} | {failed} | {row['skipped']} | {row['seconds']} |"
        )
    told = (
        "Runs of `nox -t matrix`, resolved freely, against built wheels: tests that passed, by Python and torch. The "
        "floors and the versions of the lock stand in each package's README."
    )
    return "\n".join(["# Tested versions", "", told, "", *short, "", "## In full", "", *full, ""])


def oldest_first(torch: str) -> list[float]:
    """Sort key of a torch version of the matrix; the newest, whatever it was, comes last."""
    return [float("inf")] if torch == "newest" else [int(part) for part in torch.split(".")]


def outcome(row: dict[str, Any]) -> str:
    """Return a run in a few words: how many tests passed, and what else there was."""
    others = {"failed": row["failures"] + row["errors"], "skipped": row["skipped"]}
    passed = row["tests"] - sum(others.values())
    return ", ".join([str(passed), *(f"{count} {name}" for name, count in others.items() if count)])


def newcomer_page() -> str:
    """Return what a newcomer's first steps took: the newest row of each package."""
    path = DOCS.parent / "benchmarks" / "results" / "newcomer.jsonl"
    rows = {row["package"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    table = [
        "| package | install line | environment | install | example | distributions | MB, no torch | load |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| [{name}](packages/{name}.md) | `{row['install']}` | {row['environment_s']} | "
            f"{row['install_s']} ({row['install_processor_s']}) | {row['example_s']} ({row['example_processor_s']}) | "
            f"{row['distributions']} | {row['megabytes_without_torch']} | {row['load']} |"
            for name, row in sorted(rows.items())
        ),
    ]
    told = (
        "From nothing to the first example of each README: a new environment, the install line, the first Python "
        "block, each in seconds by the clock, in brackets the seconds of a processor. `nox -s newcomer` measures, with "
        "`uv venv` and `uv pip install`: ours from wheels built here, versions of `uv.lock`, all others from a cache "
        "that already held them, so that no download is in these numbers. The example is the first Python process of "
        "its environment, which also compiles what it imports. *Load* is the load average of a machine with two cores "
        "when a package's steps began: above 2, the seconds by the clock are too high. Size leaves out torch and the "
        "GPU libraries that its wheel brings."
    )
    return f"# The first minutes\n\n{told}\n\n" + "\n".join(table) + "\n"


def write_package_pages(*_: object) -> None:
    """Write docs/packages/, docs/matrix.md and docs/newcomer.md, which git ignores."""
    (DOCS / "matrix.md").write_text(matrix_page(), encoding="utf-8")
    (DOCS / "newcomer.md").write_text(newcomer_page(), encoding="utf-8")
    pages = {"index": packages_index()}
    for package in packages().values():
        pages |= package_pages(package)
    for name, text in pages.items():
        path = DOCS / "packages" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def mathml(formula: str, *, block: bool) -> str:
    """Return MathML; the converter has no delimiters of a fixed size, so they grow with what is inside."""
    grown = re.sub(r"\\[Bb]igg?\)", r"\\right)", re.sub(r"\\[Bb]igg?\(", r"\\left(", formula))
    return tex2mathml(grown, as_block=block).replace("<mo>‖</mo>", '<mo stretchy="false">‖</mo>')


def inline_math(writer: Any, node: Any) -> None:
    """Write a formula within a line."""
    writer.body.append(mathml(node.astext(), block=False))
    raise SkipNode


def block_math(writer: Any, node: Any) -> None:
    """Write a formula of its own."""
    writer.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>\n')
    raise SkipNode


def line_by_line(paragraph: str, before: str) -> str:
    """Keep the lines of a paragraph of formulas apart; before is the paragraph above."""
    lines = paragraph.split("\n")
    indented = all(line.startswith(" ") for line in lines)
    formulas = len(lines) > 1 and all(" = " in line for line in lines)
    other = before.endswith("::") or any(line.lstrip().startswith(("- ", "* ", ">>>", "|", ":")) for line in lines)
    if other or not (formulas or (indented and before)):
        return paragraph
    return "\n".join(re.sub(r"^( *)", r"\1| ", line) for line in lines)


def mathematics(_app: object, _what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
    """Turn the dollars of a docstring into what Sphinx reads as mathematics, and keep formulas line by line."""
    text = re.sub(r"^\$\$ (.*?) \$\$$", r".. math:: \1", "\n".join(lines), flags=re.MULTILINE)
    text = re.sub(r"\$([^$\n]+)\$", r":math:`\1`", text)
    head, fields = re.match(r"(.*?)((?:^(?:[:*-]|\.\. ).*)?)\Z", text, re.DOTALL | re.MULTILINE).groups()
    paragraphs = head.split("\n\n")
    kept = [line_by_line(now, before) for before, now in zip(["", *paragraphs], paragraphs, strict=False)]
    lines[:] = ("\n\n".join(kept) + fields).split("\n")


def uninteresting(_app: object, _what: str, name: str, of: object, _skip: bool, _options: object) -> bool | None:
    """Leave out what a class has for printing, and the fields of a named tuple, which its docstring lists already."""
    return True if name == "extra_repr" or str(of.__doc__).startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """Generate the pages before Sphinx looks for them."""
    app.connect("autodoc-process-docstring", mathematics)
    app.connect("autodoc-skip-member", uninteresting)
    app.connect("config-inited", write_package_pages)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
