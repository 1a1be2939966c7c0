"""Creative Leap-of-Thought: tuning, self-refinement and evaluation of vision-language models for creative answers."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

try:
    __version__ = _version("sail-clot")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = ["__version__"]
