"""Nouns by part-of-speech taggers: NLTK for English, Jieba for Chinese, Janome for Japanese."""

import re
import warnings
from functools import lru_cache
from typing import Any

from oogiri_go.runs import needs

# The tagger reads words; NLTK's own tokenizer would need a second download.
_WORD = re.compile(r"[A-Za-z]+(?:[-'’][A-Za-z]+)*|[0-9]+|[.,!?;:]")


def tagged_nouns(text: str, lang: str) -> list[str]:
    """Nouns of a text by the tagger of its language."""
    return {"en": _english, "zh": _chinese, "ja": _japanese}[lang](text)


def _english(text: str) -> list[str]:
    with needs("sail-clot", "nouns"):
        import nltk  # type: ignore[import-untyped]
    try:
        tags = nltk.pos_tag(_WORD.findall(text))
    except LookupError:
        raise ValueError(
            "NLTK is installed but the data of its tagger are not: run "
            "`python -m nltk.downloader averaged_perceptron_tagger_eng`, or choose method='heuristic', which needs none"
        ) from None
    return [word.lower() for word, tag in tags if tag.startswith("N") and len(word) > 1]


def _chinese(text: str) -> list[str]:
    return [pair.word for pair in _jieba().cut(text) if "n" in pair.flag and len(pair.word.strip()) > 1]


def _japanese(text: str) -> list[str]:
    found = []
    for token in _janome().tokenize(text):
        kinds = token.part_of_speech.split(",")
        if (
            kinds[0] == "名詞"
            and kinds[1] in ("一般", "固有名詞", "サ変接続", "形容動詞語幹")
            and len(token.surface) > 1
        ):
            found.append(token.surface)
    return found


@lru_cache(maxsize=1)
def _jieba() -> Any:
    with needs("sail-clot", "nouns"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own old escapes and imports
        import logging

        import jieba.posseg  # type: ignore[import-untyped]

        jieba.setLogLevel(logging.WARNING)
        jieba.initialize()
    return jieba.posseg


@lru_cache(maxsize=1)
def _janome() -> Any:
    with needs("sail-clot", "nouns"):
        from janome.tokenizer import Tokenizer
    return Tokenizer()
