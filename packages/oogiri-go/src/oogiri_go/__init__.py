"""Dataset tooling for Oogiri-GO: read, verify, deduplicate, split and build humour data for the datasets library."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import runs, safety
from ._build import Build, build
from ._card import card
from ._choices import Choice, choice_questions
from ._contents import picture_contents
from ._dataset import OogiriDataset
from ._dedup import Dedup, dedup
from ._export import export
from ._groups import dedup_key, fold, group_key, groups
from ._issue import DataError, Issue
from ._lines import write_jsonl
from ._messages import to_messages
from ._pairs import Pair, dpo_row, ranking_pairs, star_percentiles
from ._read import read_jsonl
from ._record import Record, language, record_id
from ._review import review
from ._split import Splits, split
from ._stats import Statistics, statistics
from ._verify import Findings, verify
from .safety import SafetyFilter

try:
    __version__ = _version("oogiri-go")
except _PackageNotFoundError:
    __version__ = "0+source"

# fmt: off
__all__ = [
    "Build", "Choice", "DataError", "Dedup", "Findings", "Issue", "OogiriDataset", "Pair", "Record", "SafetyFilter",
    "Splits", "Statistics", "__version__", "build", "card", "choice_questions", "dedup", "dedup_key", "dpo_row",
    "export", "fold", "group_key", "groups", "language", "picture_contents", "ranking_pairs", "read_jsonl",
    "record_id", "review", "runs", "safety", "split", "star_percentiles", "statistics", "to_messages", "verify",
    "write_jsonl",
]
