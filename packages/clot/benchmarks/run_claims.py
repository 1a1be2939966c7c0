"""Run the protocol of the human-rated captions: run_claims.py --out ROWS.jsonl [--data FOLDER].

One row a method and one a comparison. Data come from --data or SAIL_DATA; one thread.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy
import sklearn
from clot import __version__
from clot.metrics import (
    expected_random_ndcg,
    kendall_tau,
    ndcg,
    normalised_ndcg,
    pairwise_accuracy,
    separated_pairs,
    top1,
)
from oogiri_go import Record, group_key, read_jsonl
from oogiri_go.runs import env_report, write_atomic
from scipy.sparse import csr_matrix, hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

PROTOCOL = Path(__file__).parent / "protocols" / "captions.json"
FIRST = frozenset(["i", "i'm", "i've", "i'd", "i'll", "me", "my", "mine", "we", "we're", "we've", "us", "our"])
SECOND = frozenset(["you", "you're", "you've", "you'd", "you'll", "your", "yours"])
NOT = frozenset(["no", "not", "never", "nothing", "none", "don't", "can't", "won't", "didn't", "isn't", "doesn't"])
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


def part_of(record: Record) -> str:
    """The part of the split that a record's cartoon is in."""
    digest = blake2b(b"captions-v1\0" + group_key(record).encode(), digest_size=8).digest()
    at = int.from_bytes(digest, "big") % 5
    return {0: "test", 1: "validation"}.get(at, "train")


def description(record: Record) -> str:
    """What the cartoon shows."""
    return (record.question or "").removeprefix("Write a funny caption for this cartoon: ")


def surface(record: Record) -> list[float]:
    """The counts of the protocol."""
    text = record.text
    words = WORD.findall(text.lower().replace("’", "'"))
    shown = set(WORD.findall(description(record).lower()))
    count = max(1, len(words))
    return [
        len(text),
        len(words),
        sum(map(len, words)) / count,
        text.count("?"),
        text.count("!"),
        len(re.findall(r"\.\.\.|…|—|--| - ", text)),
        text.count(","),
        len(re.findall(r"[\"“”]", text)),
        sum(map(str.isdigit, text)),
        sum(map(str.isupper, text[1:])),
        sum(word in FIRST for word in words),
        sum(word in SECOND for word in words),
        sum(word in NOT for word in words),
        sum(word in shown for word in words) / count,
    ]


def rating(records: Sequence[Record]) -> np.ndarray:
    return np.array([one.extra["rating_mean"] for one in records])


def centred(records: Sequence[Record]) -> np.ndarray:
    """Ratings less the mean of their cartoon, over the spread within cartoons."""
    values = rating(records)
    groups = np.unique([group_key(one) for one in records], return_inverse=True)[1]
    values = values - (np.bincount(groups, values) / np.bincount(groups))[groups]
    return values / values.std()


def measure(records: Sequence[Record], scores: Sequence[float], protocol: dict[str, Any]) -> dict[str, Any]:
    """The headline and what stands beside it, over the cartoons of some records."""
    means = rating(records).tolist()
    errors = [one.extra["rating_se"] for one in records]
    groups = [group_key(one) for one in records]
    found = pairwise_accuracy(scores, means, errors, groups, z=protocol["truth"]["z"], **protocol["bootstrap"])
    by_cartoon: dict[str, tuple[list[float], list[float]]] = {}
    for group, mean, score in zip(groups, means, scores, strict=True):
        stars, given = by_cartoon.setdefault(group, ([], []))
        stars.append(mean - 1.0)  # ratings run from 1 to 3: gains from 0
        given.append(float(score))
    cartoons = list(by_cartoon.values())
    return {
        "pairwise_accuracy": found.accuracy,
        "interval": found.interval,
        "pairs": found.pairs,
        "possible_pairs": found.possible,
        "cartoons": found.groups,
        "captions": len(records),
        "top1": float(np.mean([top1(*one) for one in cartoons])),
        "top1_chance": float(np.mean([1 / len(stars) for stars, _ in cartoons])),
        "tau": float(np.mean([kendall_tau(*one) or 0.0 for one in cartoons])),
        "ndcg": float(np.mean([ndcg(*one) for one in cartoons])),
        "random_ndcg": float(np.mean([expected_random_ndcg(stars) for stars, _ in cartoons])),
        "normalised_ndcg": float(np.mean([normalised_ndcg(*one) or 0.0 for one in cartoons])),
    }


def accuracy(records: Sequence[Record], scores: Sequence[float], protocol: dict[str, Any]) -> float:
    errors = [one.extra["rating_se"] for one in records]
    groups = [group_key(one) for one in records]
    found = pairwise_accuracy(scores, rating(records).tolist(), errors, groups, z=protocol["truth"]["z"], draws=1)
    return found.accuracy


def compare(
    records: Sequence[Record], first: Sequence[float], second: Sequence[float] | None, protocol: dict[str, Any]
) -> dict[str, Any]:
    """Difference of accuracies over the same pairs, cartoons drawn again; None stands for chance."""
    errors = [one.extra["rating_se"] for one in records]
    groups = [group_key(one) for one in records]
    pairs = np.array(separated_pairs(rating(records).tolist(), errors, groups, z=protocol["truth"]["z"]))
    labels = np.unique([groups[at] for at in pairs[:, 0]], return_inverse=True)[1]

    def right(scores: Sequence[float] | None) -> np.ndarray:
        if scores is None:
            return np.full(len(pairs), 0.5)
        better, worse = np.asarray(scores)[pairs[:, 0]], np.asarray(scores)[pairs[:, 1]]
        return (better > worse) + 0.5 * (better == worse)

    difference = right(first) - right(second)
    totals, counts = np.bincount(labels, difference), np.bincount(labels)
    rng = np.random.default_rng(protocol["bootstrap"]["seed"])
    drawn = rng.integers(len(totals), size=(protocol["bootstrap"]["draws"], len(totals)))
    ratios = totals[drawn].sum(1) / counts[drawn].sum(1)
    tail = (1 - protocol["bootstrap"]["level"]) / 2
    low, high = (float(one) for one in np.quantile(ratios, [tail, 1 - tail]))
    holds = True if low > 0 else False if high < 0 else None
    return {"difference": float(difference.mean()), "interval": [low, high], "holds": holds}


class Features:
    """TF-IDF, its SVD and the surface counts, fitted on some records."""

    def __init__(self, records: Sequence[Record], *, words: bool) -> None:
        self._words = words
        self._scale = StandardScaler().fit([surface(one) for one in records])
        if words:
            texts = [one.text for one in records]
            self._word = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit(texts)
            self._char = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2).fit(texts)
            self._svd = TruncatedSVD(100, random_state=0).fit(self._word.transform(texts))

    def __call__(self, records: Sequence[Record]) -> csr_matrix:
        """The matrix of some records."""
        counts = csr_matrix(self._scale.transform([surface(one) for one in records]))
        if not self._words:
            return counts
        texts = [one.text for one in records]
        words = self._word.transform(texts)
        return hstack([words, self._char.transform(texts), csr_matrix(self._svd.transform(words)), counts]).tocsr()


def trained(
    parts: dict[str, list[Record]], protocol: dict[str, Any], *, words: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """Choose alpha on the validation cartoons, fit on both, score the test cartoons."""
    features = Features(parts["train"], words=words)
    inputs, held = features(parts["train"]), features(parts["validation"])
    tried = {}
    for alpha in protocol["alphas"]:
        model = Ridge(alpha=alpha, solver="lsqr").fit(inputs, centred(parts["train"]))
        tried[alpha] = accuracy(parts["validation"], model.predict(held).tolist(), protocol)
    alpha = max(tried, key=lambda one: (tried[one], one))
    both = parts["train"] + parts["validation"]
    features = Features(both, words=words)
    model = Ridge(alpha=alpha, solver="lsqr").fit(features(both), centred(both))
    return model.predict(features(parts["test"])), {"alpha": alpha, "validation": {str(k): v for k, v in tried.items()}}


def relatedness(parts: dict[str, list[Record]]) -> dict[str, np.ndarray]:
    """Cosine of caption and description in the space fitted on training texts, for each part."""
    corpus = [one.text for one in parts["train"]] + sorted({description(one) for one in parts["train"]})
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit(corpus)
    svd = TruncatedSVD(100, random_state=0).fit(words.transform(corpus))
    found = {}
    for name, records in parts.items():
        said = svd.transform(words.transform([one.text for one in records]))
        shown = svd.transform(words.transform([description(one) for one in records]))
        norms = np.linalg.norm(said, axis=1) * np.linalg.norm(shown, axis=1)
        found[name] = (said * shown).sum(1) / np.where(norms > 0, norms, 1.0)
    return found


def signed(train: Sequence[Record], values: Sequence[float], protocol: dict[str, Any]) -> int:
    """The sign of a measure that orders the training cartoons better than chance."""
    return 1 if accuracy(train, values, protocol) >= 0.5 else -1


def run(data: Path, protocol: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of the protocol."""
    path = data / protocol["data"]["file"]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != protocol["data"]["sha256"]:
        raise SystemExit(f"{path.name} has the SHA-256 {found}; the protocol is for {protocol['data']['sha256']}")
    parts: dict[str, list[Record]] = {"train": [], "validation": [], "test": []}
    for one in read_jsonl(path):
        parts[part_of(one)].append(one)
    train, test = parts["train"], parts["test"]
    scores: dict[str, list[float]] = {}
    notes: dict[str, dict[str, Any]] = {}
    scores["random"] = [float(int(one.id[:12], 16)) for one in test]
    sign = signed(train, [len(one.text) for one in train], protocol)
    scores["length"], notes["length"] = [sign * float(len(one.text)) for one in test], {"sign": sign}
    cosine = relatedness(parts)
    sign = signed(train, cosine["train"].tolist(), protocol)
    scores["embedding"], notes["embedding"] = (sign * cosine["test"]).tolist(), {"sign": sign}
    for name, words in (("trained", True), ("trained without words", False)):
        predicted, notes[name] = trained(parts, protocol, words=words)
        scores[name] = predicted.tolist()
    exposure = {
        "star": [float(one.star or 0) for one in test],
        "rating_count": [float(one.extra["rating_count"]) for one in test],
    }
    sizes = {
        name: {"captions": len(rows), "cartoons": len({group_key(one) for one in rows})} for name, rows in parts.items()
    }
    rows: list[dict[str, Any]] = [{"part": "captions", "kind": "split", **sizes}]
    for kind, several in (("method", scores), ("exposure", exposure)):
        for name, given in several.items():
            row = {"part": "captions", "kind": kind, "name": name, **notes.get(name, {})}
            rows.append(row | measure(test, given, protocol))
    for first, second in protocol["comparisons"]:
        other = None if second == "chance" else scores[second]
        row = {"part": "captions", "kind": "comparison", "first": first, "second": second}
        rows.append(row | compare(test, scores[first], other, protocol))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=os.environ.get("SAIL_DATA"))
    arguments = parser.parse_args()
    if arguments.data is None:
        sys.exit("there are no data: name their folder with --data or SAIL_DATA")
    protocol = json.loads(PROTOCOL.read_text(encoding="utf-8"))
    started = time.process_time()
    rows = run(Path(arguments.data), protocol)
    head = {
        "package": "sail-clot",
        "version": __version__,
        "protocol": "protocols/captions.json",
        "protocol_sha256": hashlib.sha256(PROTOCOL.read_bytes()).hexdigest(),
        "data_sha256": protocol["data"]["sha256"],
        "env": env_report()
        | {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__},
        "seconds": round(time.process_time() - started, 1),
    }
    write_atomic(arguments.out, "".join(json.dumps(head | row) + "\n" for row in rows))
    for row in rows:
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
