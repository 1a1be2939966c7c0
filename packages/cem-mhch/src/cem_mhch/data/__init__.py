"""Dialogues from files, logs, public corpora, messages, and from a simulated customer service."""

from ._corpora import import_betold as import_betold
from ._corpora import import_ssa as import_ssa
from ._handoffs import label_handoff as label_handoff
from ._jsonl import load_jsonl as load_jsonl
from ._jsonl import save_jsonl as save_jsonl
from ._logs import ImportResult as ImportResult
from ._logs import import_log as import_log
from ._messages import from_messages as from_messages
from ._pickles import import_pickle as import_pickle
from ._pickles import load_arrays as load_arrays
from ._simulator import Simulation as Simulation
from ._simulator import simulate as simulate
from ._validate import validate as validate

__all__ = [
    "ImportResult",
    "Simulation",
    "from_messages",
    "import_betold",
    "import_log",
    "import_pickle",
    "import_ssa",
    "label_handoff",
    "load_arrays",
    "load_jsonl",
    "save_jsonl",
    "simulate",
    "validate",
]
