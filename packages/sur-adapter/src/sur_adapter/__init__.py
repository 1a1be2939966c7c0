"""SUR-adapter: language-model understanding for the text encoders of diffusion pipelines."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import functional, losses, plots, scorers
from ._adapter import SURAdapter
from ._bundle import SURAdapterBundle
from ._compare import Comparison, compare
from ._convert import convert_original_checkpoint
from ._paired import Paired, mcnemar, paired
from ._pairs_page import Tally, tally, write_pairs_page
from ._prompt_cache import PromptCache
from ._provenance import Provenance
from ._suite import Item, load_suite

try:
    __version__ = _version("sur-adapter")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = ["PromptCache", "Provenance", "SURAdapter", "SURAdapterBundle", "__version__"]
__all__ += ["Comparison", "Item", "Paired", "Tally", "compare", "load_suite", "mcnemar", "paired", "tally"]
__all__ += ["convert_original_checkpoint", "functional", "losses", "plots", "scorers", "write_pairs_page"]
