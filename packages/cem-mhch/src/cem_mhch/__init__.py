"""When should a chatbot hand over to a person? Hosts, the causal module CEM, metrics, streaming, evaluation of logs."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import functional, metrics
from ._batch import Batch, collate
from ._cem import CEM, CEMConfig, HandoffOutput
from ._cost import CostModel
from ._evaluate import Predictions, choose_threshold, evaluate, predict
from ._fit import FitConfig, FitResult, fit
from ._types import Dialogue, Turn
from ._vocab import Vocab
from .data import from_messages, load_jsonl, simulate, validate
from .hosts import HandoffModel, HostOutput
from .streaming import Decision, Rules, Sessions, StreamingScorer

try:
    __version__ = _version("cem-mhch")
except _PackageNotFoundError:
    __version__ = "0+source"

# fmt: off
__all__ = [
    "CEM", "Batch", "CEMConfig", "CostModel", "Decision", "Dialogue", "FitConfig", "FitResult", "HandoffModel",
    "HandoffOutput", "HostOutput", "Predictions", "Rules", "Sessions", "StreamingScorer", "Turn", "Vocab",
    "__version__", "choose_threshold", "collate", "evaluate", "fit", "from_messages", "functional", "load_jsonl",
    "metrics", "predict", "simulate", "validate",
]
# fmt: on
