"""The teacher of the toy world: sentence vectors of its training prompts."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from sur_adapter._minilm import NAME
from sur_adapter._teacher_cache import TeacherCache
from sur_adapter._teacher_encode import encode_teacher


def teacher_vectors(texts: Sequence[str], folder: Path) -> Tensor:
    """Encode texts with all-MiniLM-L6-v2, those that the folder lacks, and give all their vectors.

    Raises:
        MissingExtra: The extra ``minilm`` is not installed.
    """
    encode_teacher(sorted(set(texts)), folder, model=NAME)
    return TeacherCache(folder).vectors(list(texts)).float()
