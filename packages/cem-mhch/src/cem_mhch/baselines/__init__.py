"""What a model has to beat: each baseline scores the turns of dialogues."""

from ._llm import JudgeError as JudgeError
from ._llm import LLMJudge as LLMJudge
from ._rules import Always as Always
from ._rules import Keyword as Keyword
from ._rules import Never as Never
from ._rules import Scores as Scores
from ._tfidf import TfidfLogistic as TfidfLogistic

__all__ = ["Always", "JudgeError", "Keyword", "LLMJudge", "Never", "Scores", "TfidfLogistic"]
