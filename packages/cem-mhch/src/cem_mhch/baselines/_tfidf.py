"""The classic: words of the turn, and a linear model."""

from __future__ import annotations

from collections.abc import Sequence

from sail_core.extras import needs

from cem_mhch._types import Dialogue, Turn
from cem_mhch._vocab import words

from ._rules import Scores


class TfidfLogistic:
    """TF-IDF of the turn's 1- and 2-grams, marked by its role, under a logistic regression with balanced classes.

    Args:
        history: So many earlier turns of the dialogue are read too, marked by their distance.

    Raises:
        MissingExtra: scikit-learn is not installed (extra `demo`).
    """

    name = "tfidf"

    def __init__(self, *, history: int = 0) -> None:
        with needs("cem-mhch", "demo"):
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
        self.history = history
        self._vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", lowercase=False, sublinear_tf=True)
        self._model = LogisticRegression(class_weight="balanced", max_iter=1000)

    def fit(self, dialogues: Sequence[Dialogue]) -> TfidfLogistic:
        """Learn from the turns that have a label.

        Raises:
            ValueError: The labelled turns are not of both classes.
        """
        labelled = [
            (document, turn.handoff)
            for one in dialogues
            for document, turn in zip(self._documents(one), one.turns, strict=True)
            if turn.handoff is not None
        ]
        if {label for _, label in labelled} != {0, 1}:
            raise ValueError("the labelled turns must hold both classes, handoff 0 and 1")
        documents, labels = zip(*labelled, strict=True)
        self._model.fit(self._vectorizer.fit_transform(documents), labels)
        return self

    def score(self, dialogues: Sequence[Dialogue]) -> Scores:
        """The probability of a handoff at each turn."""
        documents = [document for one in dialogues for document in self._documents(one)]
        found = iter(self._model.predict_proba(self._vectorizer.transform(documents))[:, 1].tolist())
        return [[next(found) for _ in one.turns] for one in dialogues]

    def _documents(self, dialogue: Dialogue) -> list[str]:
        read = [_words(turn) for turn in dialogue.turns]
        return [
            " ".join(
                f"{back}:{word}" if back else word
                for back in range(min(self.history, number) + 1)
                for word in read[number - back]
            )
            for number in range(len(read))
        ]


def _words(turn: Turn) -> list[str]:
    tokens = [str(token) for token in turn.tokens] if turn.tokens is not None else words(turn.text or "")
    return [f"<{turn.role}>", *tokens]
