"""Time and memory against size: bench_growth.py --out FILE [--device cpu|cuda] [--quick] [--only WHAT ...].

The shape of a row is the number that grows and its layout says what is counted.

``instructions``: all kinds of them from records in three languages, six answers to a prompt, wrong options and groups
found anew in each call; nouns are given.

``options``: log-probability of options of 26 tokens after a prompt of 354 tokens with a picture; the model has 6.0
million parameters, a call reads at most 32 options side by side. The peer is the host's forward pass on the prompt with
each option (`naive`), only while that is cheap.

``prompt``: the same for 5 options after a prompt of more and more tokens.

``ledger``: a ledger of candidates, 16 records of five in a block, written and replayed; the file is held against one
that is written here.

`peak_bytes` is what tensors hold at most for options and prompt, what Python holds at most for instructions and ledger:
both are exact, while the pages of a process hide what fits into its free memory.
"""

import argparse
import json
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_instructions import make_records
from bench_ledger import fill, peak
from bench_scoring import OPTION, PROMPT, VERSIONS, Setting, over
from clot import InstructionMix, build_instructions
from clot.distractors import Distractors
from oogiri_go import group_key
from sail_core.bench import append_rows, compare, peak_bytes
from torch import Tensor

SIZES = {
    "instructions": [300 * 2**at for at in range(7)],
    "options": [4 * 2**at for at in range(7)],
    "prompt": [64 * 2**at for at in range(7)],
    "ledger": [80 * 2**at for at in range(8)],
}
LAYOUT = {"instructions": "records", "options": "options", "prompt": "tokens", "ledger": "candidates"}
MODE = {"instructions": "run", "options": "score", "prompt": "score", "ledger": "run"}
NAIVE = 64
STATES = ("planned", "generated", "ranked", "selected", "kept")
Truth = Callable[[], Tensor]
Case = tuple[int, dict[str, Callable[[], Tensor]], Truth, Callable[[], int]]


def more_records(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """Instructions; what is left out is counted, answers are those of the records."""
    mix = InstructionMix(select=1.0, rank=1.0, mask=1.0, answer=1.0, per_record=4.0)
    every = {size: make_records(size) for size in sizes}

    def made(size: int) -> Tensor:
        records = every[size]
        wrong = Distractors(
            records,
            literals={group_key(one): f"plain {one.question}" for one in records},
            rewrites={one.id: f"dull {one.text}" for one in records},
        )
        words = {one.id: (one.text.split()[0].lower() if one.lang == "en" else one.text[:2],) for one in records}
        texts = {one.id: one.text for one in records}
        found = build_instructions(records, mix, nouns=lambda one: words[one.id], distractors=wrong)
        kinds = dict.fromkeys(("answer", "select", "rank", "mask"), 0)
        for one in found:
            kind = one.kind if one.kind in kinds else "answer"
            kinds[kind] += kind != "answer" or one.target == texts[one.record_id]
        return torch.tensor([float(count) for count in kinds.values()])

    made(sizes[0])  # warm
    for size in sizes:
        call = partial(made, size)
        yield size, {"clot": call}, lambda size=size: torch.full((4,), float(size)), partial(peak_python, call)


def peak_python(call: Callable[[], object]) -> int:
    """Most bytes that Python holds beyond what it held before."""
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def scoring(size: int, setting: Setting, several: int, tokens: int, device: str) -> Case:
    """Options after a prompt."""
    prompt = setting.prompt(tokens)
    options = [setting.text(OPTION, start=at + 1) for at in range(several)]

    def ours() -> Tensor:
        return setting.our_options(prompt, options)

    calls: dict[str, Callable[[], Tensor]] = {"clot": ours}
    if several * tokens <= NAIVE * PROMPT:
        calls["naive"] = lambda: setting.host_options(prompt, options, 1)
    return size, calls, lambda: setting.host_options(prompt, options, 8).cpu(), lambda: peak_bytes(ours, device)


def more_options(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """More and more options."""
    setting = Setting(device)
    return (scoring(size, setting, size, PROMPT, device) for size in sizes)


def longer_prompts(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """Longer and longer prompts."""
    setting = Setting(device, context=2 * max(sizes))
    return (scoring(size, setting, 5, size, device) for size in sizes)


def written(records: int) -> bytes:
    """What a ledger of so many records must hold."""
    rank = {"rank": 1, "score": 0.25}
    choice = {"preference": 0.5, "truth": 0.25, "chosen": True}
    text = {"text": "some answer of a usual length, more or less"}
    added = ({"condition": None}, text, rank, choice, {"margin": 0.25})
    lines: list[dict[str, Any]] = [{"ledger": 1, "config": "c"}]
    for start in range(0, records, 16):
        for state, more in zip(STATES, added, strict=True):
            for at in range(start, start + 16):
                for candidate in range(5):
                    key = {"round": 1, "record": f"record-{at:08d}", "candidate": candidate, "config": "c"}
                    lines.append({**key, "state": state, **more})
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def more_candidates(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """Longer and longer ledgers."""

    def run(records: int) -> Tensor:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "ledger.jsonl")
            fill(path, records)
            fill(path, records)
            return torch.tensor([float(path.stat().st_size)])

    def truth(records: int) -> Tensor:
        expected = written(records)
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "ledger.jsonl")
            fill(path, records)
            assert path.read_bytes() == expected
        return torch.tensor([float(len(expected))])

    for size in sizes:
        records = size // 5
        yield size, {"clot": partial(run, records)}, partial(truth, records), lambda n=records: peak(n)[0]


CASES = {
    "instructions": more_records,
    "options": more_options,
    "prompt": longer_prompts,
    "ledger": more_candidates,
}


def rows_of(what: str, sizes: Sequence[int], device: str, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """The rows of one operation, size by size."""
    for size, calls, found, memory in CASES[what](sizes, device):
        with torch.inference_mode():
            truth = found()
            rows = compare(
                f"growth_{what}",
                {name: over(call, truth) for name, call in calls.items()},
                lambda seed: [],
                reference=lambda truth=truth: torch.ones_like(truth),
                tolerance=1e-4,
                mode=MODE[what],
                shape=[size],
                dtype="float32" if LAYOUT[what] in ("options", "tokens") else "text",
                layout=LAYOUT[what],
                device=device,
                versions=VERSIONS,
                seconds=seconds,
            )
            rows[0]["peak_bytes"] = memory()
        yield rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Time and memory against records, options, tokens and candidates.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="three small sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, help="what grows")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    correct = True
    for what in arguments.only:
        if arguments.device == "cuda" and what not in ("options", "prompt"):
            continue
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
