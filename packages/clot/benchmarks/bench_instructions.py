"""Instructions a second, and prompts against Jinja: bench_instructions.py --out FILE [--device cpu] [--quick].

One thread, process time. The records are made up: six answers to each question in three languages, with plain and
rewritten answers and one noun each, so that every kind can be made. The peer renders the same prompts, with templates
compiled before; it is timed only if every character agrees.
"""

import argparse
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jinja2
from clot import InstructionMix, Templates, __version__, build_instructions
from clot.distractors import Distractors
from oogiri_go import Record, group_key, record_id
from oogiri_go._synthetic import sentence
from sail_core.bench import append_rows, compare

VERSIONS = {"clot": __version__, "jinja2": jinja2.__version__}


def make_records(count: int) -> list[Record]:
    """Six answers with different likes to each question."""
    rng = random.Random(0)
    rows = []
    for prompt in range(count // 6):
        lang = ("en", "zh", "ja")[prompt % 3]
        question = f"{sentence(rng, lang)} {prompt}"
        for at in range(6):
            text = f"{sentence(rng, lang)} {at}"
            name = record_id(lang=lang, type="T2T", question=question, image=None, text=text)
            rows.append(Record(name, "T2T", question, None, text, 3 * at, lang))
    return rows


class Builder:
    """All kinds of instructions of the records, nouns found before, as `clot nouns` does."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self._wrong = Distractors(
            records,
            literals={group_key(one): f"plain {one.question}" for one in records},
            rewrites={one.id: f"dull {one.text}" for one in records},
        )
        self._nouns = {one.id: (one.text.split()[0].lower() if one.lang == "en" else one.text[:2],) for one in records}

    def __call__(self) -> tuple[Counter[str], int]:
        """Make them; give the number of each kind, and the bytes."""
        kinds: Counter[str] = Counter()
        size = 0
        made = build_instructions(
            self.records, InstructionMix(), nouns=lambda one: self._nouns[one.id], distractors=self._wrong
        )
        for one in made:
            kinds[one.kind] += 1
            size += len(one.prompt.text) + len(one.target)
        return kinds, size


def prompts(records: Sequence[Record]) -> dict[str, Callable[[], float]]:
    """The same prompts, of the kind "condition", by us and by Jinja."""
    templates = Templates()
    variants = range(3)

    def ours() -> float:
        total = 0
        for at, one in enumerate(records):
            total += len(
                templates.render(
                    "condition", one.lang, "T2T", variant=at % 3, question=one.question or "", condition=one.text[:2]
                )
            )
        return float(total)

    environment = jinja2.Environment(autoescape=False, keep_trailing_newline=True)
    compiled = {
        (lang, variant): environment.from_string(
            templates.render(
                "condition", lang, "T2T", variant=variant, question="{{ question }}", condition="{{ condition }}"
            )
        )
        for lang in ("en", "zh", "ja")
        for variant in variants
    }

    def theirs() -> float:
        total = 0
        for at, one in enumerate(records):
            total += len(compiled[one.lang, at % 3].render(question=one.question, condition=one.text[:2]))
        return float(total)

    for at, one in enumerate(records[:300]):
        mine = templates.render(
            "condition", one.lang, "T2T", variant=at % 3, question=one.question or "", condition=one.text[:2]
        )
        assert mine == compiled[one.lang, at % 3].render(question=one.question, condition=one.text[:2])
    return {"clot": ours, "jinja2": theirs}


def rows_of(
    op: str, implementations: dict[str, Callable[[], float]], truth: float, count: int, size: int, seconds: float
) -> list[dict[str, Any]]:
    """The rows of one operation over `count` things of `size` bytes in all."""
    return compare(
        op,
        implementations,
        lambda seed: [],
        reference=lambda: truth,
        tolerance=0.0,
        mode="cpu",
        shape=[count],
        dtype="prompts",
        layout="text",
        versions=VERSIONS,
        model_bytes=size,
        seconds=seconds,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Instructions a second, and prompts against Jinja.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="nothing here uses a GPU")
    parser.add_argument("--quick", action="store_true", help="few records, to see that it runs")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda":
        print("nothing here uses a GPU")
        return 0
    records = make_records(1_200 if arguments.quick else 18_000)
    seconds = 0.2 if arguments.quick else 5.0
    builder = Builder(records)
    kinds, size = builder()
    count = kinds.total()
    assert min(kinds.values()) > 0, kinds
    rows = rows_of("instructions", {"clot": lambda: float(builder()[1])}, float(size), count, size, seconds)
    pair = prompts(records)
    letters = pair["jinja2"]()
    rows += rows_of("prompts", pair, letters, len(records), int(letters), seconds)
    append_rows(arguments.out, rows)
    for row in rows:
        rate = f"{row['shape'][0] / row['median_us'] * 1e6:,.0f} a second" if row["median_us"] else "wrong"
        print(f"{row['op']:14} {row['impl']:8} {rate}{', noisy' * bool(row['noisy'])} {row['peer_ratio']}", flush=True)
    return 0 if all(row["correct"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
