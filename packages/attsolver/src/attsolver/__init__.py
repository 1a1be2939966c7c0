"""A fused ODE engine for batches, and AttSolver, a learned additive correction of an explicit solver."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import systems as systems
from ._attsolver import AttSolver as AttSolver
from ._corrector import Corrector as Corrector
from ._export import export_npz as export_npz
from ._fit import FitReport as FitReport
from ._fit import fit as fit
from ._generate import TrajectoryData as TrajectoryData
from ._generate import generate as generate
from ._neurvec import NeurVec as NeurVec
from ._neurvec import load_neurvec_checkpoint as load_neurvec_checkpoint
from ._odeint import odeint as odeint
from ._rhs import rhs as rhs
from ._solution import OutOfDomainWarning as OutOfDomainWarning
from ._solution import Solution as Solution
from ._solution import SolverError as SolverError
from ._solve import solve as solve
from ._solve import step as step
from ._stiffness import StiffnessWarning as StiffnessWarning
from ._stiffness import StiffProblemError as StiffProblemError

try:
    __version__ = _version("attsolver")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = [
    "AttSolver", "Corrector", "FitReport", "NeurVec", "OutOfDomainWarning", "Solution", "SolverError",
    "StiffProblemError", "StiffnessWarning", "TrajectoryData", "__version__", "export_npz", "fit", "generate",
    "load_neurvec_checkpoint", "odeint", "rhs", "solve", "step", "systems",
]  # fmt: skip
