"""SUR-adapter: language-model understanding for the text encoders of diffusion pipelines."""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from . import functional, losses, plots, scorers
from ._a1111 import clean_prompt, parse_prompt
from ._adapter import SURAdapter
from ._bundle import SURAdapterBundle
from ._compare import Comparison, compare
from ._convert import convert_original_checkpoint
from ._noise import SchedulerNoise, linear_flow
from ._paired import Paired, mcnemar, paired
from ._pairs_page import Tally, tally, write_pairs_page
from ._prepare import PrepareDataConfig, prepare_data
from ._projector import TeacherProjector
from ._prompt_cache import PromptCache
from ._provenance import Provenance
from ._step import Step, Weights
from ._student import Batch, Student
from ._suite import Item, load_suite
from ._surd import Surd
from ._teacher_cache import TeacherCache
from ._teacher_encode import encode_teacher
from ._teacher_import import import_teacher
from ._train_config import TrainConfig

try:
    __version__ = _version("sur-adapter")
except _PackageNotFoundError:
    __version__ = "0+source"

__all__ = ["PromptCache", "Provenance", "SURAdapter", "SURAdapterBundle", "__version__"]
__all__ += ["Comparison", "Item", "Paired", "Tally", "compare", "load_suite", "mcnemar", "paired", "tally"]
__all__ += ["convert_original_checkpoint", "functional", "losses", "plots", "scorers", "write_pairs_page"]
__all__ += ["Batch", "PrepareDataConfig", "SchedulerNoise", "Step", "Student", "Surd", "TeacherCache"]
__all__ += ["TeacherProjector", "TrainConfig", "Weights", "clean_prompt", "encode_teacher", "import_teacher"]
__all__ += ["linear_flow", "parse_prompt", "prepare_data"]
