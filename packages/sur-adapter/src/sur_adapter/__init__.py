"""SUR-adapter: language-model understanding for the text encoders of diffusion pipelines."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import functional, losses
from ._adapter import SURAdapter
from ._provenance import Provenance

try:
    __version__ = _version("sur-adapter")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = ["Provenance", "SURAdapter", "__version__", "functional", "losses"]
