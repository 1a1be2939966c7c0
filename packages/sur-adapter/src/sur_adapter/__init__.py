"""SUR-adapter: language-model understanding for the text encoders of diffusion pipelines."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

try:
    __version__ = _version("sur-adapter")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = ["__version__"]
