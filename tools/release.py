"""Check a release tag and print its notes. Run as `python tools/release.py dia-attention-v0.1.0`.

The tag, the static version and the changelog's top entry have to name the same release; the notes are that entry.
"""

import os
import posixpath
import re
import sys

from workspace import Package, packages

ENTRY = re.compile(
    r"^## \[(?P<version>[^\]]+)\] - \d{4}-\d{2}-\d{2}\n(?P<notes>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL
)

RELATIVE = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?!\w+:|#)(?P<target>[^)\s]+)\)")


def index_page(package: Package, repository: str | None = None) -> str:
    """Return a package's README as an index page shows it: there, a relative link leads nowhere.

    Args:
        package: The package.
        repository: The address of the repository on its host. None takes the environment variable SAIL_REPOSITORY;
            without that the README stays as it is.
    """
    readme = (package.path / "README.md").read_text(encoding="utf-8")
    repository = os.environ.get("SAIL_REPOSITORY") if repository is None else repository
    if not repository:
        return readme

    def absolute(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("packages", package.folder, link["target"]))
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}[{link['text']}]({repository}/{kind}/{package.dist}-v{package.version}/{path})"

    return RELATIVE.sub(absolute, readme).replace("<this repository>", repository)


def notes(tag: str) -> str:
    """Return the changelog entry that the tag releases.

    Raises:
        ValueError: the tag names no package, or its version is not the package's or not the changelog's top entry.
    """
    split = re.fullmatch(r"(.+)-v(\d.*)", tag)
    by_dist = {package.dist: package for package in packages().values()}
    if split is None or split[1] not in by_dist:
        raise ValueError(f"{tag!r} is not <distribution>-vX.Y.Z with one of {', '.join(sorted(by_dist))}")
    package, version = by_dist[split[1]], split[2]
    folder = f"packages/{package.folder}"
    if package.version != version:
        raise ValueError(f"{tag!r} does not release the version in {folder}, which is {package.version}")
    top = ENTRY.search((package.path / "CHANGELOG.md").read_text(encoding="utf-8"))
    if top is None or top["version"] != version:
        raise ValueError(f"the top entry of {folder}/CHANGELOG.md is not `## [{version}] - YYYY-MM-DD`")
    return top["notes"].strip()


if __name__ == "__main__":
    try:
        print(notes(sys.argv[1]))
    except ValueError as error:
        sys.exit(f"release: {error}")
