"""SUR-adapter: language-model understanding for the text encoders of diffusion pipelines."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import functional, losses
from ._adapter import SURAdapter
from ._bundle import SURAdapterBundle
from ._convert import convert_original_checkpoint
from ._prompt_cache import PromptCache
from ._provenance import Provenance

try:
    __version__ = _version("sur-adapter")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = ["PromptCache", "Provenance", "SURAdapter", "SURAdapterBundle", "__version__"]
__all__ += ["convert_original_checkpoint", "functional", "losses"]
