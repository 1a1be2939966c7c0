"""Vision-language models of transformers as a backend: a prompt is read once for all candidates and options."""

from oogiri_go.runs import needs

with needs("sail-clot", "hf"):
    import sail_core as _sail_core  # noqa: F401
    import torch as _torch  # noqa: F401
    import transformers as _transformers  # noqa: F401

from ._backend import HFBackend as HFBackend
from ._record_error import RecordError as RecordError

__all__ = ["HFBackend", "RecordError"]
