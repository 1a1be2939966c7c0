"""What was attached, in a form that can be written down."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class AttachConfig:
    """Everything that is needed to attach again: the arguments of ``attach`` or ``share`` with their defaults."""

    name: str
    stages: tuple[int, ...]
    init: str
    check_finite: bool
    options: dict[str, Any]
    per: Literal["stage", "block"] = "block"
    share_norm: bool = True
    folded: bool = False
