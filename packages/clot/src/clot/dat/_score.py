"""The score of a list of words, by the rules of the authors' program."""

import math
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

_WORD = re.compile(r"[a-z][a-z-]*[a-z]")
_UNWANTED = re.compile(r"[^a-zA-Z- ]+")

Vectors = Mapping[str, Any]


def read_dictionary(path: str | os.PathLike[str]) -> frozenset[str]:
    r"""Read the words that count from a file with one a line: those of two or more letters a-z, hyphens inside.

    Args:
        path: The file, such as the authors' ``words.txt``.

    Returns:
        The words.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no such word.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "words.txt")
        ...     _ = path.write_text("cat\nCat\ncul-de-sac\nx\n")
        ...     print(sorted(read_dictionary(path)))
        ['cat', 'cul-de-sac']
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    words = frozenset(line for line in lines if _WORD.fullmatch(line))
    if not words:
        raise ValueError(f"{Path(path).name} has no word of the letters a-z; expected one word a line")
    return words


def clean(word: str, known: Container[str]) -> str | None:
    """Find the form of a word that counts.

    Everything but letters a-z, hyphens and spaces is dropped and capitals become small. ``cul de sac`` is looked up as
    ``cul-de-sac`` and ``culdesac``, ``top-hat`` as it is and as ``tophat``; the first that is known counts.

    Args:
        word: What was answered.
        known: Dictionary or embeddings.

    Returns:
        The form, or None where none is known or at most one letter is left.

    Example:
        >>> clean(" Cul de sac!", {"cul-de-sac"}), clean("Top-Hat", {"tophat"}), clean("x", {"x"})
        ('cul-de-sac', 'tophat', None)
    """
    text = _UNWANTED.sub("", word).strip().lower()
    if len(text) <= 1:
        return None
    if " " in text:
        forms = [re.sub(" +", "-", text), re.sub(" +", "", text)]
    else:
        forms = [text, re.sub("-+", "", text)] if "-" in text else [text]
    return next((form for form in forms if _WORD.fullmatch(form) and form in known), None)


def distance(first: str, second: str, embeddings: Vectors) -> float:
    """Give the cosine distance of two words.

    1 - u.v / (norm(u) norm(v))

    Args:
        first: A word of the embeddings.
        second: Another.
        embeddings: Vectors by word.

    Returns:
        From 0 to 2.

    Raises:
        ValueError: A word has no vector, or a vector of zeros.

    Example:
        >>> distance("a", "b", {"a": [1.0, 0.0], "b": [0.0, 2.0]})
        1.0
    """
    u, v = (_vector(word, embeddings) for word in (first, second))
    return float(1.0 - np.dot(u, v) / math.sqrt(float(np.dot(u, u)) * float(np.dot(v, v))))


def _vector(word: str, embeddings: Vectors) -> "np.ndarray[Any, np.dtype[np.float64]]":
    try:
        vector = np.asarray(embeddings[word], dtype=np.float64)
    except KeyError:
        raise ValueError(f"the word {word!r} has no vector in the embeddings") from None
    if not (np.isfinite(vector).all() and vector.any()):
        raise ValueError(f"the vector of {word!r} is zero or not finite")
    return vector


def mean_distance(words: Sequence[str], embeddings: Vectors) -> float:
    """Give the mean of the cosine distances of all pairs of words, times 100.

    Args:
        words: At least two words of the embeddings.
        embeddings: Vectors by word.

    Returns:
        From 0 to 200.

    Raises:
        ValueError: There are fewer than two words, or one has no vector.

    Example:
        >>> mean_distance(["a", "b"], {"a": [1.0, 0.0], "b": [0.0, 2.0]})
        100.0
    """
    if len(words) < 2:
        raise ValueError(f"{len(words)} words have no distance; expected at least 2")
    distances = [distance(first, second, embeddings) for first, second in combinations(words, 2)]
    return sum(distances) / len(distances) * 100


def score(
    words: Iterable[str], embeddings: Vectors, *, minimum: int = 7, dictionary: Container[str] | None = None
) -> float | None:
    """Give the score of the Divergent Association Task: `mean_distance` of the first ``minimum`` valid words.

    A word is valid in the form that `clean` finds; repeated ones count once. With the authors' dictionary and the
    vectors GloVe 840B the score is theirs.

    Args:
        words: What was answered, usually ten nouns.
        embeddings: Vectors by word.
        minimum: How many valid words are taken; at least 2.
        dictionary: Words that count; None takes all that have a vector.

    Returns:
        The score, or None where fewer than ``minimum`` words are valid.

    Raises:
        ValueError: ``minimum`` is below 2.

    Example:
        >>> vectors = {"cat": [1.0, 0.0], "dog": [1.0, 0.2], "thimble": [0.0, 1.0]}
        >>> print(f"{score(['Cat', 'dog', 'cat', 'thimble!'], vectors, minimum=3):.2f}")
        60.78
        >>> print(score(["cat", "dog"], vectors))
        None
    """
    if minimum < 2:
        raise ValueError(f"minimum is {minimum}; expected at least 2 words")
    known = embeddings if dictionary is None else _Both(dictionary, embeddings)
    valid: dict[str, None] = {}
    for word in words:
        if (form := clean(word, known)) is not None:
            valid[form] = None
    if len(valid) < minimum:
        return None
    return mean_distance(list(valid)[:minimum], embeddings)


class _Both:
    """Words that two containers have."""

    def __init__(self, first: Container[str], second: Container[str]) -> None:
        self._first, self._second = first, second

    def __contains__(self, word: object) -> bool:
        return word in self._first and word in self._second
