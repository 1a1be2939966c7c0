"""A fused ODE engine for batches, and AttSolver, a learned additive correction of an explicit solver."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import systems as systems
from ._corrector import Corrector as Corrector
from ._generate import TrajectoryData as TrajectoryData
from ._generate import generate as generate
from ._rhs import rhs as rhs
from ._solution import OutOfDomainWarning as OutOfDomainWarning
from ._solution import Solution as Solution
from ._solution import SolverError as SolverError
from ._solve import solve as solve
from ._solve import step as step

try:
    __version__ = _version("attsolver")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = [
    "Corrector",
    "OutOfDomainWarning",
    "Solution",
    "SolverError",
    "TrajectoryData",
    "__version__",
    "generate",
    "rhs",
    "solve",
    "step",
    "systems",
]
