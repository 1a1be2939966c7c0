"""Attention shared by the residual blocks of a network, for torchvision, timm and CIFAR ResNets."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import functional as functional
from ._attach import AttachReport as AttachReport
from ._attach import attach as attach
from ._attach import detach as detach
from ._attach import list_attentions as list_attentions
from ._blocks import register_block_adapter as register_block_adapter
from ._cifar import cifar_resnet as cifar_resnet
from ._dia import DIA as DIA
from ._save import load as load
from ._save import save as save

try:
    __version__ = _version("dia-attention")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = [
    "DIA",
    "AttachReport",
    "__version__",
    "attach",
    "cifar_resnet",
    "detach",
    "functional",
    "list_attentions",
    "load",
    "register_block_adapter",
    "save",
]
