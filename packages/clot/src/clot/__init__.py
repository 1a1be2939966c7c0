"""Creative Leap-of-Thought: tuning, self-refinement and evaluation of vision-language models for creative answers."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import cloud, dat, distractors, metrics
from ._backend import Backend, Generation, OptionLogprobs, OptionRequest, Prompt, Request
from ._conditions import ConditionSampler
from ._discrimination import NotAboveChance
from ._echo import EchoBackend
from ._evaluate import Evaluation, choice_questions, evaluate, export_lm_eval, ranking_questions
from ._gates import Gates
from ._instructions import Instruction, InstructionMix, build_instructions
from ._lazy import __getattr__ as __getattr__
from ._nouns import NounSet, nouns_of
from ._openai import OpenAIBackend
from ._parse import parse_answer, parse_ranking
from ._pictures import Pictures
from ._pipeline import CLoTPipeline
from ._question import Question, Scored
from ._refine import Refinement, self_refine
from ._scorers import ContentScorer, GenerateScorer, LetterScorer, Scorer, scorer_of, swap_heads
from ._stages import Sampling
from ._templates import Templates

try:
    __version__ = _version("sail-clot")
except _PackageNotFoundError:
    __version__ = "0+source"

# fmt: off
__all__ = [
    "Backend", "CLoTPipeline", "ConditionSampler", "ContentScorer", "EchoBackend", "Evaluation", "Gates",
    "GenerateScorer", "Generation", "Instruction", "InstructionMix", "LetterScorer", "NotAboveChance", "NounSet",
    "OpenAIBackend", "OptionLogprobs", "OptionRequest", "Pictures", "Prompt", "Question", "Refinement", "Request",
    "Sampling", "Scored", "Scorer", "Templates", "__version__", "build_instructions", "choice_questions", "cloud",
    "dat", "distractors", "evaluate", "export_lm_eval", "metrics", "nouns_of", "parse_answer", "parse_ranking",
    "ranking_questions", "scorer_of", "self_refine", "swap_heads",
]
