"""Atomic files, run reports, command lines and named extras, with the face that sail-core's have."""

from ._atomic import write_atomic as write_atomic
from ._command import main as main
from ._env import env_report as env_report
from ._extras import MissingExtra as MissingExtra
from ._extras import needs as needs
from ._report import Report as Report
from ._report import Verdict as Verdict
from ._report import figure_style as figure_style

__all__ = ["MissingExtra", "Report", "Verdict", "env_report", "figure_style", "main", "needs", "write_atomic"]
