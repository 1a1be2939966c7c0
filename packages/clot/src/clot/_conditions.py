"""Conditions: words that an answer must contain, chosen to have little to do with the prompt."""

from collections.abc import Iterable

from ._draw import Draws
from ._nouns import NounSet, contains


class ConditionSampler:
    """Draw conditions: none with probability ``rho``, else a noun, each as probable as any other.

    Nouns that occur in what is to be avoided (question, caption, known answers) are passed over, for the paper finds
    conditions that have to do with the prompt to be worse. The draws depend on seed, name and place only: the same on
    every machine, in every order.

    Args:
        nouns: The nouns.
        rho: Probability of no condition, from 0 to 1.
        seed: Another number gives other draws.

    Raises:
        ValueError: ``rho`` is out of range.

    Example:
        >>> sampler = ConditionSampler(NounSet.from_words(["cactus", "judge", "taxi"], "en"), rho=0.5)
        >>> sampler.sample("prompt-1", "en", n=5, avoid=["The judge sleeps."])
        (None, 'cactus', None, None, 'taxi')
    """

    def __init__(self, nouns: NounSet, *, rho: float = 0.5, seed: int = 0) -> None:
        if not 0 <= rho <= 1:
            raise ValueError(f"rho is {rho}; expected a probability")
        self._words = {lang: nouns.words(lang) for lang in nouns.counts}
        self.rho = rho
        self.seed = seed

    def sample(self, name: str, lang: str, *, n: int = 1, avoid: Iterable[str] = ()) -> tuple[str | None, ...]:
        """Draw n conditions.

        Args:
            name: What they are for, such as a round and a record's identifier.
            lang: ``"en"``, ``"zh"`` or ``"ja"``.
            n: How many, at least 1.
            avoid: Texts whose words are not drawn.

        Returns:
            n nouns, or None for no condition.

        Raises:
            ValueError: There is no noun of the language while ``rho`` is below 1.
        """
        words = self._words.get(lang, ())
        if not words and self.rho < 1:
            raise ValueError(
                f"there is no noun in {lang!r} to draw from; collect some with `clot nouns`, or set rho to 1"
            )
        texts = list(avoid)
        return tuple(self._one(Draws(self.seed, name, str(at)), words, texts, lang) for at in range(n))

    def _one(self, draws: Draws, words: tuple[str, ...], avoid: list[str], lang: str) -> str | None:
        if draws.uniform() < self.rho:
            return None
        for _ in range(20):
            word = words[draws.below(len(words))]
            if not any(contains(text, word, lang) for text in avoid):
                return word
        free = [word for word in words if not any(contains(text, word, lang) for text in avoid)]
        return free[draws.below(len(free))] if free else None
