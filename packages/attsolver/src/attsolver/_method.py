"""From the name of a method, or a corrected one, to what the engines need."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ._corrector import Corrected, Corrector
from ._symplectic import SPLITTINGS, Splitting
from ._tableaus import TABLEAUS, Tableau

Kind = Literal["runge_kutta", "corrected", "adaptive", "splitting", "expm"]


@dataclass(frozen=True, eq=False)
class Method:
    """A method with its coefficients.

    Args:
        kind: Which engine runs it.
        name: What the user called it.
        tableau: Of the Runge-Kutta methods.
        splitting: Of ``leapfrog`` and ``pefrl``.
        corrected: The corrected method.
        arrays: Its correction.
    """

    kind: Kind
    name: str
    tableau: Tableau | None = None
    splitting: Splitting | None = None
    corrected: Corrected | None = None
    arrays: Corrector | None = None

    @property
    def evaluations(self) -> int:
        """Evaluations of f in one step."""
        return self.tableau.stages if self.tableau else self.splitting.forces if self.splitting else 0


def method_names() -> list[str]:
    """Every name that ``method`` can be."""
    return [*TABLEAUS, *SPLITTINGS, "expm"]


def find_method(method: str | Corrected, dt: float | None) -> Method:
    """The method of a name; ``dopri5`` and ``dop853`` without dt are adaptive.

    Raises:
        ValueError: For a name that is none.
        TypeError: For an object without a correction.
    """
    if isinstance(method, str):
        return _named(method, dt is None)
    if not isinstance(method, Corrected):
        raise TypeError(f"method is a name or an AttSolver; got {type(method).__name__}")
    if method.base not in TABLEAUS:
        raise ValueError(f"the corrector's base {method.base!r} is not one of {', '.join(TABLEAUS)}")
    return Method(
        "corrected", f"corrected {method.base}", TABLEAUS[method.base], corrected=method, arrays=method.corrector()
    )


@lru_cache(maxsize=64)
def _named(method: str, free_steps: bool) -> Method:
    if method in TABLEAUS:
        tableau = TABLEAUS[method]
        return Method("adaptive" if tableau.error and free_steps else "runge_kutta", method, tableau)
    if method in SPLITTINGS:
        return Method("splitting", method, splitting=SPLITTINGS[method])
    if method == "expm":
        return Method("expm", method)
    raise ValueError(f"there is no method {method!r}; expected one of {', '.join(method_names())}, or an AttSolver")
