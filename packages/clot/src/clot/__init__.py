"""Creative Leap-of-Thought: tuning, self-refinement and evaluation of vision-language models for creative answers."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import metrics
from ._backend import Backend, Generation, OptionLogprobs, OptionRequest, Prompt, Request
from ._conditions import ConditionSampler
from ._echo import EchoBackend
from ._instructions import Instruction
from ._nouns import NounSet, nouns_of
from ._parse import parse_answer, parse_ranking
from ._pictures import Pictures
from ._question import Question, Scored
from ._templates import Templates

try:
    __version__ = _version("sail-clot")
except _PackageNotFoundError:
    __version__ = "0+source"

# fmt: off
__all__ = [
    "Backend", "ConditionSampler", "EchoBackend", "Generation", "Instruction", "NounSet", "OptionLogprobs",
    "OptionRequest", "Pictures", "Prompt", "Question", "Request", "Scored", "Templates", "__version__", "metrics",
    "nouns_of", "parse_answer", "parse_ranking",
]
