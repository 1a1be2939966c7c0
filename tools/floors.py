"""Exit with an error unless every given requirement is installed at exactly its floor. Run by `nox -s lowest`."""

import sys
from importlib.metadata import version

from packaging.requirements import Requirement
from packaging.version import Version

wrong = []
for line in sys.argv[1:]:
    requirement = Requirement(line)
    floor = next(s.version for s in requirement.specifier if s.operator in {">=", "=="})
    if Version(Version(version(requirement.name)).public) != Version(floor):  # a local part such as +cpu is no matter
        wrong.append(f"{line} is installed as {version(requirement.name)}")
sys.exit("\n".join(["floors that were not reached:", *wrong]) if wrong else 0)
