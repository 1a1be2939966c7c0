"""Time and memory against size: bench_growth.py --out FILE [--device cpu|cuda] [--quick] [--only WHAT ...].

The shape of a row is the number that grows and its layout says what is counted. `peak_bytes` is what tensors hold at
most, those of the result included. Everything is held against the same in float64.

``dialogues``: `predict` over dialogues of 24 turns on average, batches of 64; the peer is TF-IDF with logistic
regression on the same turns as text.

``turns``: one dialogue of many turns through `StreamingScorer`, turn by turn. The peer scores what was said so far
again at each turn (`rescored`), only while that is cheap.

``batch``: one training step, forward, backward and AdamW, over dialogues of 24 turns of 10 tokens in one batch; without
dropout, and at a rate of 0, so that each step is the same.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from bench_models import BATCH, VOCAB, Exact, build, dialogues, unlabelled
from cem_mhch import CEM, CEMConfig, Dialogue, HandoffModel, StreamingScorer, Turn, __version__, collate, predict
from sail_core.bench import append_rows, compare, peak_bytes
from sail_core.runs import seed_everything
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

VERSIONS = dict.fromkeys(("cem_mhch", "rescored"), __version__) | {"tfidf_lr": sklearn.__version__}
SIZES = {
    "dialogues": [32 * 2**at for at in range(7)],
    "turns": [32 * 2**at for at in range(8)],
    "batch": [8 * 2**at for at in range(8)],
}
LAYOUT = {"dialogues": "dialogues", "turns": "turns", "batch": "dialogues"}
MODE = {"dialogues": "fwd", "turns": "run", "batch": "fwdbwd"}
RESCORED = 128
Runs = dict[str, Callable[[], torch.Tensor | list[float]]]


def exact_model(model: CEM) -> CEM:
    """The same in float64 on the CPU."""
    return copy.deepcopy(model).cpu().double()


def scores(model: CEM, some: Sequence[Dialogue]) -> torch.Tensor:
    """All handoff probabilities, one after the other."""
    return torch.from_numpy(np.concatenate(predict(model, some, batch_size=BATCH).scores))


def many_dialogues(sizes: Sequence[int], device: str) -> Iterator[tuple[int, Runs, dict[str, torch.Tensor]]]:
    """`predict` and its peer."""
    model = build("bag").to(device)
    every = unlabelled(dialogues(max(sizes), 0))
    np.random.default_rng(1).shuffle(every)  # they come sorted by length
    for size in sizes:
        some = every[:size]
        texts = [" ".join(map(str, turn.tokens or ())) for one in some for turn in one.turns]
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
        features = vectorizer.fit_transform(texts)
        labels = np.random.default_rng(0).integers(0, 2, len(texts))
        regression = LogisticRegression(class_weight="balanced", max_iter=200).fit(features, labels)
        margin = torch.from_numpy(features @ regression.coef_[0] + regression.intercept_[0])

        def peer(texts: list[str] = texts, first: Any = vectorizer, then: Any = regression) -> torch.Tensor:
            return torch.from_numpy(then.predict_proba(first.transform(texts))[:, 1])

        exact = scores(exact_model(model), some)
        runs = {"cem_mhch": lambda some=some: scores(model, some), "tfidf_lr": peer}
        yield size, runs, {"cem_mhch": exact, "tfidf_lr": margin.sigmoid()}


def many_turns(sizes: Sequence[int], device: str) -> Iterator[tuple[int, Runs, dict[str, torch.Tensor]]]:
    """A long dialogue, pushed."""
    model = build("bag").to(device)
    turns = [turn for one in unlabelled(dialogues(max(sizes) // 8, 0)) for turn in one.turns][: max(sizes)]
    turns.insert(0, max(turns, key=lambda turn: len(turn.tokens or ())))  # the longest decides the memory of all sizes
    for size in sizes:
        long = Dialogue(id="long", turns=tuple(turns[:size]))
        scorer = StreamingScorer(model)

        def pushed(scorer: StreamingScorer = scorer, long: Dialogue = long) -> list[float]:
            scorer.reset()
            return [scorer.push(turn.role, turn.tokens or ()).prob for turn in long.turns]

        def rescored(long: Dialogue = long) -> list[float]:
            parts = [Dialogue(id="part", turns=long.turns[: at + 1]) for at in range(len(long.turns))]
            return [float(predict(model, [part]).scores[0][-1]) for part in parts]

        runs: Runs = {"cem_mhch": pushed}
        if size <= RESCORED:
            runs["rescored"] = rescored
        yield size, runs, dict.fromkeys(runs, scores(exact_model(model), [long]))


class Step:
    """A training step that gives its loss and the norm of its gradient."""

    def __init__(self, model: CEM, some: Sequence[Dialogue], device: str) -> None:
        self.model, self.batch = model.train(), collate(some).to(device)
        self.optimizer = torch.optim.AdamW(model.parameters(), 0.0, fused=True)

    def __call__(self) -> torch.Tensor:
        """Forward, backward, AdamW."""
        self.optimizer.zero_grad()
        loss = self.model(self.batch).loss
        assert loss is not None
        loss.backward()
        self.optimizer.step()
        gradients = [one.grad.norm() for one in self.model.parameters() if one.grad is not None]
        return torch.stack([loss.detach(), torch.stack(gradients).norm()]).cpu()


def large_batches(sizes: Sequence[int], device: str) -> Iterator[tuple[int, Runs, dict[str, torch.Tensor]]]:
    """Training steps of the second stage, which draws nothing."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, VOCAB, (max(sizes), 24, 10)).tolist()

    def turn(at: int, ids: list[int]) -> Turn:
        label, mood = (int(value) for value in rng.integers(0, (10, 3)))
        return Turn(role="bot" if at % 2 else "user", tokens=tuple(ids), handoff=int(label == 0), sentiment=mood)

    every = [
        Dialogue(id=f"d{number}", turns=tuple(turn(at, ids) for at, ids in enumerate(one)), satisfaction=number % 3)
        for number, one in enumerate(tokens)
    ]
    for size in sizes:
        seed_everything(0)
        model = CEM(
            HandoffModel.build("hgru", vocab_size=VOCAB, dropout=0.0, token_dropout=0.0), CEMConfig(dropout=0.0)
        )
        model.freeze_simulator()
        truth = Step(exact_model(model), every[:size], "cpu")()
        yield size, {"cem_mhch": Step(model.to(device), every[:size], device)}, {"cem_mhch": truth}


CASES = {"dialogues": many_dialogues, "turns": many_turns, "batch": large_batches}


def rows_of(what: str, sizes: Sequence[int], device: str, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """The rows of one operation, size by size."""
    for size, runs, truth in CASES[what](sizes, device):
        rows = compare(
            f"growth_{what}",
            {name: Exact(lambda _, run=run: torch.as_tensor(run()).cpu(), truth[name]) for name, run in runs.items()},
            lambda seed: [torch.zeros(1, device=device)],
            reference=lambda _, truth=truth: torch.ones(len(truth["cem_mhch"])),
            tolerance=1e-3,
            mode=MODE[what],
            shape=[size],
            dtype="float32",
            layout=LAYOUT[what],
            device=device,
            versions=VERSIONS,
            seconds=seconds,
        )
        rows[0]["peak_bytes"] = peak_bytes(runs["cem_mhch"], device)
        yield rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Time and memory against dialogues, turns and the batch.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="three small sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, help="what grows")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    correct = True
    for what in arguments.only:
        sizes = SIZES[what][:3] if arguments.quick else SIZES[what]
        for rows in rows_of(what, sizes, arguments.device, 0.02 if arguments.quick else 0.3):
            append_rows(arguments.out, rows)
            correct &= all(row["correct"] for row in rows)
            for row in rows:
                time = f"{row['median_us'] / 1e3:.2f} ms" if row["median_us"] else f"wrong by {row['rel_err']}"
                memory = "" if row["peak_bytes"] is None else f", {row['peak_bytes']:,} bytes"
                noisy = ", noisy" * bool(row["noisy"])
                print(f"{row['op']} {row['shape'][0]} {row['impl']}: {time}{memory}{noisy}", flush=True)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
