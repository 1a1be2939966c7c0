"""Exit with an error unless every given requirement is installed at exactly its floor. Run by `nox -s lowest`.

Where another installed distribution asks for more, its floor is the one to reach, and that is printed.
"""

import sys
from importlib.metadata import distributions, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def floor(requirement: Requirement) -> Version | None:
    """Return the lower bound of a requirement that applies here, None where it has none."""
    applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    bounds = (s.version for s in requirement.specifier if s.operator in {">=", "=="} and not s.version.endswith("*"))
    return next((Version(bound) for bound in bounds if applies), None)


others: dict[str, list[tuple[Version, str]]] = {}
for distribution in distributions():
    for line in distribution.requires or []:
        one = Requirement(line)
        if (bound := floor(one)) is not None:
            others.setdefault(canonicalize_name(one.name), []).append((bound, distribution.name))

wrong = []
for line in sys.argv[1:]:
    requirement = Requirement(line)
    own = floor(requirement)
    assert own is not None, line
    bound, asker = max([(own, ""), *others.get(canonicalize_name(requirement.name), [])])
    found = Version(Version(version(requirement.name)).public)  # a local part such as +cpu is no matter
    if found != bound:
        wrong.append(f"{line} is installed as {found}")
    elif found != own:
        print(f"{line} is installed as {found}, which {asker} asks for")
sys.exit("\n".join(["floors that were not reached:", *wrong]) if wrong else 0)
