"""Attention that the blocks of a network share or that folds away: DIA, RAS, LSAS, ASR and StepNet on any ResNet."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import functional, metrics, plots
from ._asr import ASR
from ._attach import attach, detach, list_attentions
from ._blocks import register_block_adapter
from ._cbam import CBAM
from ._cifar import cifar_resnet
from ._convert import convert_checkpoint
from ._dia import DIA
from ._eca import ECA
from ._fold import FoldError, fold
from ._lsas import LSAS
from ._ras import RAS
from ._report import AttachReport
from ._save import load, save
from ._se import SE
from ._share import share
from ._step import StepGate
from ._timm_layer import timm_layer
from ._watch import watch_gates

try:
    __version__ = _version("dia-attention")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = ["ASR", "CBAM", "DIA", "ECA", "LSAS", "RAS", "SE", "AttachReport", "FoldError", "StepGate", "__version__"]
__all__ += ["attach", "cifar_resnet", "convert_checkpoint", "detach", "fold", "functional", "list_attentions", "load"]
__all__ += ["metrics", "plots", "register_block_adapter", "save", "share", "timm_layer", "watch_gates"]
