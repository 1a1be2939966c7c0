"""What a build will do, fixed before it begins: the same plan gives the same bytes."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256 as digest_of
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ._dedup import check_near
from ._record import language
from ._schema import VERSION
from ._sources import Sources, fingerprint, sha256
from ._split import SplitBy, check_ratios


@dataclass(frozen=True)
class Options:
    """The options on which the bytes of a build depend."""

    split_by: SplitBy
    seed: int
    ratios: tuple[float, ...]
    lang: str
    near: float | None
    shard_mb: int
    license: str | None
    source: str | None

    def __post_init__(self) -> None:
        if self.split_by not in ("group", "row"):
            raise ValueError(f"split_by is {self.split_by!r}; expected 'group' or 'row'")
        check_ratios(self.ratios)
        check_near(self.near)
        if self.shard_mb < 1:
            raise ValueError(f"shard_mb is {self.shard_mb}; expected at least 1")
        if self.lang != "auto":
            language(self.lang)


@dataclass(frozen=True)
class Plan:
    """Sources, options and versions."""

    sources: Sources
    options: Options
    contents: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over the whole plan."""
        return digest_of(self.text.encode()).hexdigest()

    @property
    def text(self) -> str:
        """The plan as JSON, without a path."""
        return json.dumps(self.contents, indent=1, ensure_ascii=False, sort_keys=True) + "\n"

    @property
    def source_bytes(self) -> int:
        """Total size of the JSON lines."""
        return sum(one["bytes"] for one in self.contents["sources"])


def make_plan(sources: Sources, options: Options) -> Plan:
    """Read the sources once to know them again."""
    contents = {
        "schema": VERSION,
        "versions": {name: version(name) for name in ("msgspec", "pillow", "pyarrow")},
        "options": asdict(options) | {"ratios": list(options.ratios)},
        "sources": [_describe(path) for path in sources.files],
        "images": None if sources.images is None else fingerprint(sources.images),
    }
    return Plan(sources, options, contents)


def _describe(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
