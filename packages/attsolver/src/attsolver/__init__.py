"""A fused ODE engine for batches, and AttSolver, a learned additive correction of an explicit solver."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import systems
from ._advise import Advice, Candidate, advise
from ._attsolver import AttSolver
from ._corrector import Corrector
from ._export import export_npz
from ._fit import FitReport, fit
from ._generate import TrajectoryData, generate
from ._neurvec import NeurVec, load_neurvec_checkpoint
from ._odeint import odeint
from ._rhs import rhs
from ._solution import OutOfDomainWarning, Solution, SolverError
from ._solve import solve, step
from ._stiffness import StiffnessWarning, StiffProblemError
from ._work_precision import WorkPoint, work_precision

try:
    __version__ = _version("attsolver")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = [
    "Advice", "AttSolver", "Candidate", "Corrector", "FitReport", "NeurVec", "OutOfDomainWarning", "Solution",
    "SolverError", "StiffProblemError", "StiffnessWarning", "TrajectoryData", "WorkPoint", "__version__", "advise",
    "export_npz", "fit", "generate", "load_neurvec_checkpoint", "odeint", "rhs", "solve", "step", "systems",
    "work_precision",
]  # fmt: skip
