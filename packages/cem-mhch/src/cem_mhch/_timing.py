"""How fast a model scores on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ._cem import CEM
from ._evaluate import predict
from ._types import Dialogue
from ._vocab import Encoder
from .streaming import StreamingScorer


def time_batches(model: CEM, dialogues: Sequence[Dialogue], vocab: Encoder | None, *, repeats: int = 3) -> float:
    """Utterances a second in batches of 64 dialogues, the best of some passes, text to ids included."""
    count = sum(len(one.turns) for one in dialogues)
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        predict(model, dialogues, vocab=vocab)
        best = max(best, count / (time.process_time() - start))
    return best


def time_pushes(scorer: StreamingScorer, dialogues: Sequence[Dialogue]) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds of a push, after one dialogue to warm up."""
    found = []
    for number, dialogue in enumerate(dialogues):
        scorer.reset()
        for turn in dialogue.turns:
            content = turn.tokens if turn.tokens is not None else turn.text or ""
            start = time.perf_counter()
            scorer.push(turn.role, content)
            if number:
                found.append((time.perf_counter() - start) * 1e3)
    middle, high = np.percentile(found, [50, 99]).tolist()
    return middle, high
