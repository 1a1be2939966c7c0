"""Scores of a model over dialogues, and what the metrics say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._batch import collate

if TYPE_CHECKING:
    from ._cem import CEM
    from ._types import Dialogue
    from ._vocab import Encoder


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A model's output over dialogues, in their order, padding removed.

    Attributes:
        scores: For each dialogue `(T,)`, the probability of a handoff.
        labels: For each dialogue `(T,)`, 0, 1, or -1 without a label.
        cost: For each dialogue `(T, 2)`, predicted costs of do(no handoff) and do(handoff).
        satisfaction: `(N, 3)`, probabilities at the last turn.
        sentiment: For each dialogue `(T, 3)`, probabilities for the last user turn.
    """

    scores: list[np.ndarray]
    labels: list[np.ndarray]
    cost: list[np.ndarray]
    satisfaction: np.ndarray
    sentiment: list[np.ndarray]


def predict(
    model: CEM,
    dialogues: Sequence[Dialogue],
    *,
    vocab: Encoder | None = None,
    batch_size: int = 64,
    max_turns: int | None = None,
) -> Predictions:
    """Score dialogues in batches of similar length.

    Args:
        model: The model; it is left in the mode it was in.
        dialogues: At least one.
        vocab: Turns text into ids; not needed for dialogues of ids.
        batch_size: Dialogues scored together.
        max_turns: Dialogues are cut to their first turns, None keeps all.

    Raises:
        ValueError: There is no dialogue.
    """
    if not dialogues:
        raise ValueError("there is no dialogue to score")
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(dialogues)), key=lambda index: len(dialogues[index].turns))
    rows: dict[int, tuple[np.ndarray, ...]] = {}
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = collate([dialogues[index] for index in chosen], vocab, max_turns=max_turns).to(device)
            out = model(batch)
            parts = (
                out.probs[..., 1],
                batch.handoff,
                out.cost,
                out.satisfaction.exp(),
                out.sentiment_logits.softmax(-1),
            )
            arrays = [part.cpu().numpy() for part in parts]
            for row, (index, length) in enumerate(zip(chosen, batch.mask.sum(1).tolist(), strict=True)):
                rows[index] = tuple(array[row, :length] for array in arrays)
    model.train(training)
    scores, labels, costs, satisfaction, sentiment = zip(*(rows[index] for index in range(len(dialogues))), strict=True)
    return Predictions(
        scores=list(scores),
        labels=list(labels),
        cost=list(costs),
        satisfaction=np.stack([one[-1] for one in satisfaction]),
        sentiment=list(sentiment),
    )


def evaluate(
    model: CEM,
    dialogues: Sequence[Dialogue],
    *,
    vocab: Encoder | None = None,
    threshold: float = 0.5,
    max_turns: int | None = None,
) -> dict[str, Any]:
    """Score labelled dialogues and report every metric of `metrics.handoff_report`, and those of satisfaction.

    Args:
        model: The model.
        dialogues: Dialogues whose turns have handoff labels.
        vocab: Turns text into ids; not needed for dialogues of ids.
        threshold: A turn whose probability is at least this is a handoff; see `choose_threshold`.
        max_turns: Dialogues are cut to their first turns, None keeps all.

    Returns:
        The report, with `satisfaction_accuracy` (None where no dialogue has a satisfaction) and `expected_cost`, the
        mean predicted cost of a turn.

    Raises:
        ValueError: There is no dialogue, or a turn without a label.
    """
    from .metrics import handoff_report

    found = predict(model, dialogues, vocab=vocab, max_turns=max_turns)
    for dialogue, gold in zip(dialogues, found.labels, strict=True):
        if (gold < 0).any():
            turn = int((gold < 0).argmax())
            raise ValueError(f"dialogue {dialogue.id!r}, turn {turn}: it has no handoff label to evaluate against")
    labels = [one.tolist() for one in found.labels]
    preds = [(one >= threshold).astype(int).tolist() for one in found.scores]
    report = dict(handoff_report(labels, preds, [one.tolist() for one in found.scores]))
    known = [(row, one.satisfaction) for row, one in zip(found.satisfaction, dialogues, strict=True)]
    right = [int(row.argmax()) == gold for row, gold in known if gold is not None]
    report["satisfaction_accuracy"] = sum(right) / len(right) if right else None
    both = [np.stack([1 - score, score], 1) * cost for score, cost in zip(found.scores, found.cost, strict=True)]
    report["expected_cost"] = float(np.concatenate(both).sum(1).mean())
    return report


def choose_threshold(
    model: CEM, dialogues: Sequence[Dialogue], *, vocab: Encoder | None = None, max_turns: int | None = None
) -> float:
    """The threshold of the best macro-F1 on dialogues that are no test dialogues.

    Args:
        model: The model.
        dialogues: Labelled dialogues, such as those that chose the epoch.
        vocab: Turns text into ids; not needed for dialogues of ids.
        max_turns: Dialogues are cut to their first turns, None keeps all.

    Returns:
        One of 0.05, 0.1, ..., 0.95; of several best ones that nearest to 0.5.
    """
    found = predict(model, dialogues, vocab=vocab, max_turns=max_turns)
    candidates = sorted((round(0.05 * step, 2) for step in range(1, 20)), key=lambda one: abs(one - 0.5))
    return max(candidates, key=lambda one: macro_f1(found.labels, found.scores, threshold=one))


def macro_f1(labels: Sequence[np.ndarray], scores: Sequence[np.ndarray], *, threshold: float = 0.5) -> float:
    """Macro-F1 over the turns that have a label.

    Example:
        >>> macro_f1([np.array([0, 1, -1])], [np.array([0.2, 0.7, 0.9])])
        1.0
    """
    gold, score = np.concatenate(list(labels)), np.concatenate(list(scores))
    pred = score[gold >= 0] >= threshold
    gold = gold[gold >= 0] == 1
    found = []
    for truth, guess in ((gold, pred), (~gold, ~pred)):
        hits, sizes = int((truth & guess).sum()), int(truth.sum()) + int(guess.sum())
        found.append(2 * hits / sizes if sizes else 0.0)
    return sum(found) / 2
