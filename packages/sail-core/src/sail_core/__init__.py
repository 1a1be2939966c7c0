"""Recalibration kernels, run directories, atomic checkpoints and reports shared by the Sail packages.

Import what you need from the part that holds it: ``sail_core.ops``, ``sail_core.runs``, ``sail_core.report``,
``sail_core.command``, ``sail_core.testing`` and ``sail_core.bench``. This module imports none of them.
"""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__: str = version("sail-core")
except PackageNotFoundError:
    __version__ = "0+source"
