"""ScaleLong: scaling of the long skip connections of UNets and U-ViTs."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import functional as functional
from . import nn as nn
from . import plots as plots
from ._attach import Handle as Handle
from ._attach import attach as attach
from ._attach import attached as attached
from ._attach import detach as detach
from ._diagnose import diagnose as diagnose
from ._fold import FoldError as FoldError
from ._fold import fold as fold
from ._save import load as load
from ._save import save as save
from ._sites import SkipSite as SkipSite
from ._sites import UnsupportedModelError as UnsupportedModelError
from ._sites import find_skips as find_skips
from ._sites import register_adapter as register_adapter
from ._stability import StabilityLogger as StabilityLogger
from ._warning import ScalingWarning as ScalingWarning

try:
    __version__ = _version("scalelong")
except _PackageNotFoundError:
    __version__ = "0+source"

# fmt: off
__all__ = [
    "FoldError", "Handle", "ScalingWarning", "SkipSite", "StabilityLogger", "UnsupportedModelError", "__version__",
    "attach", "attached", "detach", "diagnose", "find_skips", "fold", "functional", "load", "nn", "plots",
    "register_adapter", "save",
]
