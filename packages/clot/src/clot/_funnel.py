"""What became of the candidates of a round."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from oogiri_go import Record

from ._candidate import Block
from ._conditions import uses
from ._diversity import diversity

STEPS = ("planned", "generated", "passed the gates", "among the first two", "chosen", "kept")


class Funnel:
    """Counts how many candidates get how far, why the others do not, and how often conditions are used."""

    def __init__(self) -> None:
        self.steps: Counter[str] = Counter(dict.fromkeys(STEPS, 0))
        self.reasons: Counter[str] = Counter()
        self.asked = 0
        self.used = 0

    def add(self, block: Block, languages: Mapping[str, str]) -> None:
        """Count a block whose candidates are all final."""
        for one in block.candidates:
            reached = (
                True,
                one.text is not None,
                one.rank is not None,
                one.chosen is not None,
                bool(one.chosen),
                one.state == "kept",
            )
            self.steps.update(step for step, yes in zip(STEPS, reached, strict=True) if yes)
            if one.reason is not None:
                self.reasons[one.reason.partition(":")[0].partition(" '")[0]] += 1
            if one.text is not None and one.condition is not None:
                self.asked += 1
                self.used += uses(one.condition, one.text, languages[one.record])

    def summary(self, kept: Iterable[Record]) -> dict[str, Any]:
        """Give the counts and the diversity of what was kept, as JSON values."""
        return {
            "steps": dict(self.steps),
            "dropped": dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))),
            "conditions asked": self.asked,
            "conditions used": self.used,
            "diversity": diversity({one.text: one.lang for one in kept}),
        }
