"""Creative Leap-of-Thought: tuning, self-refinement and evaluation of vision-language models for creative answers."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import metrics
from ._backend import Backend, Generation, OptionLogprobs, OptionRequest, Prompt, Request
from ._conditions import ConditionSampler
from ._content import ContentScorer
from ._echo import EchoBackend
from ._generated import GenerateScorer
from ._instructions import Instruction
from ._letters import LetterScorer
from ._nouns import NounSet, nouns_of
from ._parse import parse_answer, parse_ranking
from ._pictures import Pictures
from ._question import Question, Scored
from ._scorers import Scorer, scorer_of, swap_heads
from ._templates import Templates

try:
    __version__ = _version("sail-clot")
except _PackageNotFoundError:
    __version__ = "0+source"

# fmt: off
__all__ = [
    "Backend", "ConditionSampler", "ContentScorer", "EchoBackend", "GenerateScorer", "Generation", "Instruction",
    "LetterScorer", "NounSet", "OptionLogprobs", "OptionRequest", "Pictures", "Prompt", "Question", "Request", "Scored",
    "Scorer", "Templates", "__version__", "metrics", "nouns_of", "parse_answer", "parse_ranking", "scorer_of",
    "swap_heads",
]
