"""Run a protocol file: run_claims.py PROTOCOL --out ROWS.jsonl; started again, it goes on with what is missing.

A row is one training and its test dialogues. Data come from --data or SAIL_DATA; one thread.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cem_mhch import CEM, CEMConfig, Dialogue, FitConfig, HandoffModel, Turn, fit, predict
from cem_mhch.baselines import TfidfLogistic
from cem_mhch.metrics import handoff_report
from sail_core.runs import env_report, seed_everything
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

Scores = list[np.ndarray]


@dataclass(frozen=True)
class Job:
    """One training: the set's entry in the protocol, its condition, seed and fold."""

    name: str
    condition: str
    seed: int
    fold: int | None


def read(path: Path, *, sentiment: str | None = None) -> list[Dialogue]:
    """Dialogues of token ids; with `sentiment="polarity"` the sign of a lexicon's polarity is the sentiment."""
    dialogues = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        turns = tuple(
            Turn(
                role="user" if turn["role"] == "user" else "bot",
                tokens=tuple(turn["tokens"]),
                handoff=turn.get("handoff"),
                sentiment=1 + int(np.sign(turn["polarity"])) if sentiment == "polarity" else turn.get("sentiment"),
            )
            for turn in row["turns"]
        )
        dialogues.append(Dialogue(id=row["id"], turns=turns, satisfaction=row.get("satisfaction")))
    return dialogues


def jobs(protocol: dict[str, Any]) -> Iterator[Job]:
    """All trainings, seed by seed, so that an unfinished run has whole pairs; the further seeds come last."""
    sets = protocol["sets"]
    parts = [*sets.items(), *((name, entry["more"]) for name, entry in sets.items() if "more" in entry)]
    for name, part in parts:
        folds = sets[name].get("only_folds", range(protocol["folds"])) if protocol["split"] == "development" else [None]
        for seed in part["seeds"]:
            for fold in folds:
                yield from (Job(name, condition, seed, fold) for condition in part["conditions"])


def split(
    entry: dict[str, Any], protocol: dict[str, Any], job: Job, data: Path
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Training and test dialogues of a job."""
    kind = entry.get("sentiment")
    train = [one for path in entry["train"] for one in read(data / path, sentiment=kind)]
    if job.fold is None:
        test = [one for path in entry["test"] for one in read(data / path, sentiment=kind)]
    else:
        order = np.random.default_rng(job.seed).permutation(len(train))
        chosen = set(order[job.fold :: protocol["folds"]].tolist())
        test = [one for index, one in enumerate(train) if index in chosen]
        train = [one for index, one in enumerate(train) if index not in chosen]
    if "auxiliary" in entry:
        train += read(data / entry["auxiliary"])
    return train, test


def train_and_score(
    entry: dict[str, Any], protocol: dict[str, Any], job: Job, train: list[Dialogue], test: list[Dialogue]
) -> tuple[dict[str, Scores], dict[str, Any]]:
    """Scores of the test dialogues, cut and whole, and what else there is to say of the model."""
    seed_everything(job.seed)
    used = [*train, *test]  # ids of the test turns have a row in the table; its values are never trained
    vocab_size = 1 + max(token for one in used for turn in one.turns for token in turn.tokens)
    options = {key: value for key, value in protocol["host"].items() if key != "name"}
    host = HandoffModel.build(protocol["host"]["name"], vocab_size=vocab_size, **options)
    config = CEMConfig(**entry.get("changes", {}) | protocol["conditions"][job.condition])
    model = CEM(host, config)
    settings = protocol["fit"] | entry.get("fit", {})
    fit(model, train, config=FitConfig(**settings, seed=job.seed, max_turns=protocol["max_turns"]))
    cut = predict(model, test, max_turns=protocol["max_turns"])
    gold = [one.satisfaction for one in test]
    right = [int(row.argmax()) == one for row, one in zip(cut.satisfaction, gold, strict=True) if one is not None]
    more = {"beta": model.beta.item(), "satisfaction_accuracy": sum(right) / len(right) if right else None}
    return {"cut": cut.scores, "whole": predict(model, test).scores}, more


def tfidf(train: Sequence[Dialogue], test: Sequence[Dialogue], *, turns: int | None) -> Scores:
    """The package's baseline: the turn's 1- and 2-grams and its role, logistic regression with balanced classes."""
    model = TfidfLogistic().fit([replace(one, turns=one.turns[:turns]) for one in train])
    return [np.array(one) for one in model.score(test)]


def tfidf_plain(train: Sequence[Dialogue], test: Sequence[Dialogue], *, turns: int | None) -> Scores:
    """The same without the role and with plain term frequencies."""

    def text(dialogues: Sequence[Dialogue], cut: int | None) -> list[str]:
        return [" ".join(map(str, turn.tokens or ())) for one in dialogues for turn in one.turns[:cut]]

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    labels = [turn.handoff for one in train for turn in one.turns[:turns]]
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(vectorizer.fit_transform(text(train, turns)), labels)
    found = model.predict_proba(vectorizer.transform(text(test, None)))[:, 1]
    return np.split(found, np.cumsum([len(one.turns) for one in test])[:-1])


def tuned_threshold(train: list[Dialogue], seed: int, turns: int) -> float:
    """Of the best macro-F1 of a model of four fifths of the training dialogues on the last fifth."""
    order = np.random.default_rng(1000 + seed).permutation(len(train))
    held, kept = ([train[index] for index in part] for part in (order[::5], np.delete(order, np.s_[::5])))
    scores = [one[:turns] for one in tfidf(kept, held, turns=turns)]
    labels = [[turn.handoff for turn in one.turns[:turns]] for one in held]

    def quality(threshold: float) -> float:
        return float(handoff_report(labels, decide(scores, threshold), to_lists(scores))["macro_f1"])

    return max((round(0.05 * step, 2) for step in range(2, 19)), key=quality)


def decide(scores: Scores, threshold: float) -> list[list[int]]:
    return [(one >= threshold).astype(int).tolist() for one in scores]


def to_lists(scores: Scores) -> list[list[float]]:
    return [one.tolist() for one in scores]


def run(job: Job, protocol: dict[str, Any], data: Path) -> dict[str, Any]:
    """One row."""
    entry = protocol["sets"][job.name]
    begin = time.process_time()
    train, test = split(entry, protocol, job, data)
    turns = protocol["max_turns"]
    threshold, more = 0.5, {}
    if job.condition.startswith("tfidf"):
        whole = (tfidf_plain if job.condition == "tfidf_plain" else tfidf)(train, test, turns=turns)
        found = {"cut": [one[:turns] for one in whole], "whole": whole}
        if job.condition == "tfidf_tuned":
            threshold = tuned_threshold(train, job.seed, turns)
    else:
        found, more = train_and_score(entry, protocol, job, train, test)
    row = {
        "set": job.name,
        "condition": job.condition,
        "seed": job.seed,
        "fold": job.fold,
        "threshold": threshold,
    } | more
    for part, scores in found.items():
        labels = [[turn.handoff for turn in one.turns[: len(score)]] for one, score in zip(test, scores, strict=True)]
        preds = decide(scores, threshold)
        row[part] = dict(handoff_report(labels, preds, to_lists(scores)))
        row[part] |= {"confusion": confusion(labels, preds), "dialogues": len(test)}
    return row | {"cpu_seconds": round(time.process_time() - begin, 2)}


def confusion(labels: list[list[int]], preds: list[list[int]]) -> list[int]:
    """Turns with (label, prediction) = (0, 0), (0, 1), (1, 0), (1, 1)."""
    both = [2 * y + p for one, other in zip(labels, preds, strict=True) for y, p in zip(one, other, strict=True)]
    return np.bincount(both, minlength=4).tolist()


def digests(protocol: dict[str, Any], data: Path) -> dict[str, str]:
    files = {path for entry in protocol["sets"].values() for path in (*entry["train"], *entry.get("test", []))}
    files |= {entry["auxiliary"] for entry in protocol["sets"].values() if "auxiliary" in entry}
    return {path: hashlib.sha256((data / path).read_bytes()).hexdigest() for path in sorted(files)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run a protocol of the claims page.")
    parser.add_argument("protocol", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--data", type=Path, default=os.environ.get("SAIL_DATA"), help="folder that holds mhch/")
    arguments = parser.parse_args(argv)
    if arguments.data is None:
        parser.error("give --data, or set SAIL_DATA to the folder that holds mhch/")
    torch.set_num_threads(1)
    data = Path(arguments.data) / "mhch"
    protocol = json.loads(arguments.protocol.read_text(encoding="utf-8"))
    sha = hashlib.sha256(arguments.protocol.read_bytes()).hexdigest()
    rows = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    done = {
        tuple(row.get(key) for key in ("set", "condition", "seed", "fold"))
        for row in map(json.loads, rows)
        if row["protocol_sha256"] == sha
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("a", encoding="utf-8") as file:
        shared = {"protocol": arguments.protocol.stem, "protocol_sha256": sha}
        if not done:
            head = {"environment": env_report(), "data_sha256": digests(protocol, data)}
            file.write(json.dumps(shared | head) + "\n")
        for job in jobs(protocol):
            if (job.name, job.condition, job.seed, job.fold) in done:
                continue
            row = run(job, protocol, data)
            file.write(json.dumps(shared | row) + "\n")
            file.flush()
            print(
                f"{job.name} {job.condition} seed {job.seed} fold {job.fold}: {row['cut']['macro_f1']:.4f}", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
