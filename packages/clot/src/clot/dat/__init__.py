"""The Divergent Association Task: how far apart the words are that somebody calls unrelated.

References:
    Olson, Nahas, Chmoulevitch, Cropper, Webb, Naming Unrelated Words Predicts Creativity, 2021, PNAS 118 (25).
    Zhong et al., Let's Think Outside the Box, 2024, arXiv:2312.02439, for the tenth word of ten.
"""

from ._completion import Completion, CompletionResult, complete, make_completions
from ._embeddings import Embeddings
from ._score import clean, distance, mean_distance, read_dictionary, score

__all__ = [
    "Completion",
    "CompletionResult",
    "Embeddings",
    "clean",
    "complete",
    "distance",
    "make_completions",
    "mean_distance",
    "read_dictionary",
    "score",
]
