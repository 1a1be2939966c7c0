"""Conditions: words that an answer must contain, chosen to have little to do with the prompt."""

import re
from collections.abc import Sequence

from oogiri_go import fold

from ._draw import Draws
from ._nouns import NounSet


class ConditionSampler:
    """Draw conditions: none with probability ``rho``, else a noun, each as probable as any other.

    Nouns that occur in what is to be avoided (question, caption, known answers) are passed over, for the paper finds
    conditions that have to do with the prompt to be worse. A draw depends on seed and key only: it is the same on every
    machine and in every order.

    Args:
        nouns: The nouns.
        rho: Probability of no condition, from 0 to 1.
        seed: Another number gives other draws.

    Raises:
        ValueError: ``rho`` is out of range.

    Example:
        >>> sampler = ConditionSampler(NounSet.from_words(["cactus", "judge", "taxi"], "en"), rho=0.5)
        >>> [sampler.draw("en", "prompt 1", at, avoid=["The judge sleeps."]) for at in range(5)]
        [None, 'taxi', None, 'cactus', 'cactus']
    """

    def __init__(self, nouns: NounSet, *, rho: float = 0.5, seed: int = 0) -> None:
        if not 0 <= rho <= 1:
            raise ValueError(f"rho is {rho}; expected a probability")
        self._words = {lang: nouns.words(lang) for lang in nouns.counts}
        self.rho = rho
        self.seed = seed

    def draw(self, lang: str, *key: object, avoid: Sequence[str] = ()) -> str | None:
        """Draw one condition.

        Args:
            lang: ``"en"``, ``"zh"`` or ``"ja"``.
            *key: What it is for, such as a round, a record's identifier and the number of the candidate.
            avoid: Texts whose words are not drawn.

        Returns:
            A noun, or None for no condition.

        Raises:
            ValueError: There is no noun of the language while ``rho`` is below 1.
        """
        words = self._words.get(lang, ())
        if not words and self.rho < 1:
            raise ValueError(f"there is no noun in {lang!r} to draw; collect some with `clot nouns`, or set rho to 1")
        draws = Draws(self.seed, *map(str, key))
        if draws.uniform() < self.rho:
            return None
        for _ in range(20):
            word = words[draws.below(len(words))]
            if not any(uses(word, text, lang) for text in avoid):
                return word
        free = [word for word in words if not any(uses(word, text, lang) for text in avoid)]
        return free[draws.below(len(free))] if free else None


def uses(condition: str, text: str, lang: str) -> bool:
    """Whether a text contains a condition: in English as a whole word or its simple plural, else anywhere.

    Args:
        condition: The word.
        text: The text.
        lang: ``"en"``, ``"zh"`` or ``"ja"``.

    Returns:
        True where it does.

    Example:
        >>> uses("cat", "Two cats!", "en"), uses("cat", "A category.", "en"), uses("猫", "这是猫。", "zh")
        (True, False, True)
    """
    text, word = fold(text), fold(condition)
    if lang != "en":
        return word in text
    return re.search(rf"(?<!\w){re.escape(word)}(?:s|es|'s|’s)?(?!\w)", text) is not None
