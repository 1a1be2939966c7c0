"""Batched scoring and training: bench_models.py --out FILE [--device cpu|cuda] [--quick].

Scoring: a light host with CEM on batches of ids (`bag`), the same from dialogues, collation included
(`bag_from_dialogues`), a BiGRU over the tokens with CEM (`bigru`), against TF-IDF and logistic regression from
scikit-learn on the same text. An implementation is timed only if its scores agree with its own in float64. Training:
`fit` on 295 dialogues, the number of makeup2's. The dialogues are drawn with the lengths and word frequencies of chats:
24 turns of 10 tokens on average.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from cem_mhch import CEM, Batch, Dialogue, FitConfig, HandoffModel, Turn, __version__, collate, fit, predict
from sail_core.bench import append_rows, compare
from sail_core.runs import seed_everything
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

VOCAB = 10_000
BATCH = 64


def dialogues(count: int, seed: int) -> list[Dialogue]:
    """Dialogues of ids with the lengths and frequencies of chats."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(2, VOCAB)

    def turn(at: int) -> Turn:
        ids = rng.choice(np.arange(2, VOCAB), size=rng.geometric(0.1), p=weights / weights.sum())
        label, mood = (int(value) for value in rng.integers(0, (10, 3)))
        return Turn(
            role="bot" if at % 2 else "user",
            tokens=tuple(ids.tolist()),
            handoff=int(label == 0),
            sentiment=mood,
        )

    lengths = np.clip(rng.normal(24, 8, count).round(), 2, 50).astype(int)
    return [
        Dialogue(id=f"d{number}", turns=tuple(turn(at) for at in range(length)), satisfaction=int(rng.integers(0, 3)))
        for number, length in enumerate(sorted(lengths))
    ]


def unlabelled(some: Sequence[Dialogue]) -> list[Dialogue]:
    """The same without labels: scoring alone has no loss to compute."""
    return [Dialogue(id=one.id, turns=tuple(Turn(role=t.role, tokens=t.tokens) for t in one.turns)) for one in some]


def build(encoder: str) -> CEM:
    seed_everything(0)
    return CEM(HandoffModel.build("hgru", vocab_size=VOCAB, encoder=encoder)).eval()


@torch.inference_mode()
def score(model: CEM, batches: Sequence[Batch]) -> torch.Tensor:
    """Handoff probabilities of all real turns, on the CPU."""
    return torch.cat([model(batch).probs[..., 1][batch.mask] for batch in batches]).cpu()


class Exact:
    """An implementation whose result is divided by what it is in float64: ones where it is right."""

    def __init__(self, run: Any, exact: torch.Tensor) -> None:
        self.run, self.exact = run, exact

    def __call__(self, *inputs: Any) -> torch.Tensor:
        """Give ones where the result is right."""
        return self.run(*inputs) / self.exact


def scorers(some: list[Dialogue], batches: list[Batch], texts: list[str], device: str) -> dict[str, Exact]:
    """All implementations with their exact results."""
    found = {}
    for name, encoder in (("bag", "bag"), ("bag_from_dialogues", "bag"), ("bigru", "bigru")):
        model = build(encoder)
        exact = score(copy.deepcopy(model).double(), [batch.to("cpu") for batch in batches])
        model.to(device)
        if name == "bag_from_dialogues":
            run = lambda some, *_, m=model: torch.from_numpy(np.concatenate(predict(m, some, batch_size=BATCH).scores))  # noqa: E731
        else:
            run = lambda _, batches, *rest, m=model: score(m, batches)  # noqa: E731
        found[name] = Exact(run, exact)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    labels = np.random.default_rng(0).integers(0, 2, len(texts))
    features = vectorizer.fit_transform(texts)
    regression = LogisticRegression(class_weight="balanced", max_iter=200).fit(features, labels)
    margin = torch.from_numpy(features @ regression.coef_[0] + regression.intercept_[0])
    found["tfidf_lr"] = Exact(
        lambda _, __, texts: torch.from_numpy(regression.predict_proba(vectorizer.transform(texts))[:, 1]),
        margin.sigmoid(),
    )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Append rows for scoring and for training; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Scoring and training of handoff models.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="a few dialogues, to see that it runs")
    arguments = parser.parse_args(argv)
    device = arguments.device
    count, seconds = (16, 0.05) if arguments.quick else (354, 5.0)
    some = unlabelled(dialogues(count, 0))
    batches = [collate(some[start : start + BATCH]).to(device) for start in range(0, count, BATCH)]
    texts = [" ".join(map(str, turn.tokens or ())) for one in some for turn in one.turns]
    utterances = len(texts)
    shared: dict[str, Any] = {"dtype": "float32", "layout": "padded", "device": device}
    rows = compare(
        "score",
        scorers(some, batches, texts, device),
        lambda seed: [some, batches, texts],
        reference=lambda *_: torch.ones(utterances),
        tolerance=1e-3,
        mode="fwd",
        shape=(count, utterances),
        versions=dict.fromkeys(("bag", "bag_from_dialogues", "bigru"), __version__) | {"tfidf_lr": sklearn.__version__},
        seconds=seconds,
        **shared,
    )
    train = dialogues(8 if arguments.quick else 295, 1)
    config = FitConfig(epochs=1 if arguments.quick else FitConfig.epochs)

    def training(some: list[Dialogue]) -> torch.Tensor:
        seed_everything(0)
        model = CEM(HandoffModel.build("hgru", vocab_size=VOCAB))
        losses = fit(model, some, config=config, device=torch.device(device)).losses
        return torch.tensor(float(np.isfinite(losses).all()))

    rows += compare(
        "fit",
        {"bag": training},
        lambda seed: [train],
        reference=lambda *_: torch.ones(()),
        tolerance=0.0,
        mode="fit",
        shape=(len(train), sum(len(one.turns) for one in train)),
        versions={"bag": __version__},
        seconds=0.1,
        **shared,
    )
    append_rows(arguments.out, rows)
    for row in rows:
        if not row["correct"]:
            print(f"{row['op']} {row['impl']}: wrong by {row['rel_err']}")
            continue
        speed = row["shape"][1] / row["median_us"] * 1e6
        unit = f"{speed:,.0f} utterances/s" if row["op"] == "score" else f"{row['median_us'] / 1e6:.1f} s"
        print(f"{row['op']} {row['impl']:20} {unit}{', noisy' * bool(row['noisy'])}")
    return 0 if all(row["correct"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
