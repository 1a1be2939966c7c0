"""Time and memory against size: bench_growth.py --out FILE [--device cpu|cuda] [--quick] [--only WHAT ...].

The shape of a row is the number that grows and its layout says what is counted. `peak_bytes` is what tensors hold at
most, those of the result included, those of mapped files not.

``tokens``: the adapter of 768 channels on one prompt of more and more tokens. The peer is CLIP ViT-L's text encoder
with as many positions (`text_encoder`). Attention is quadratic in the tokens, all else linear.

``batch``: the same adapter on more and more prompts of 77 tokens.

``add``: vectors of width 768 into a new teacher store, 2,048 prompts in a file as `encode-teacher` writes them.

``lookup``: 256 look-ups among more and more prompts; it should not matter how many there are.

``read``: a store is opened and the vectors of all its prompts are read.
"""

import argparse
import copy
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_adapter import VERSIONS, Checked
from safetensors.torch import load_file
from sail_core.bench import append_rows, compare, peak_bytes
from sur_adapter import SURAdapter
from sur_adapter._teacher_cache import TeacherCache, TeacherFacts
from sur_adapter._teacher_store import TeacherStore
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH, SHARD, ASKED = 768, 2048, 256
PROMPTS = [256 * 2**at for at in range(8)]
SIZES = {"tokens": [16 * 2**at for at in range(7)], "batch": [2**at for at in range(7)]}
SIZES |= dict.fromkeys(("add", "lookup", "read"), PROMPTS)
LAYOUT = {"tokens": "tokens"} | dict.fromkeys(("batch", "add", "lookup", "read"), "prompts")
MODE = {"tokens": "fwd", "batch": "fwd"} | dict.fromkeys(("add", "lookup", "read"), "run")
FACTS = TeacherFacts(model="m", layer="-1", pooling="mean", dtype="float16", dim=WIDTH)
Case = tuple[int, dict[str, Callable[[], Tensor]], dict[str, Tensor]]


def adapter_on(device: str) -> tuple[SURAdapter, SURAdapter]:
    """An adapter that changes something, and the same in float64 on the CPU."""
    torch.manual_seed(0)
    adapter = SURAdapter(WIDTH).eval()
    nn.init.normal_(adapter.fc.weight, std=WIDTH**-0.5)
    return adapter.to(device), copy.deepcopy(adapter).cpu().double()


def more_tokens(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """One prompt, longer and longer."""
    adapter, exact = adapter_on(device)
    shape = {"hidden_size": WIDTH, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    encoder = CLIPTextModel(CLIPTextConfig(**shape, max_position_embeddings=max(sizes))).eval().to(device)
    for size in sizes:
        states, ids = torch.randn(1, size, WIDTH, device=device), torch.randint(1, 49_000, (1, size), device=device)
        encoder.set_attn_implementation("eager")
        truth = {"sur_adapter": exact(states.cpu().double()), "text_encoder": encoder(ids).last_hidden_state.cpu()}
        encoder.set_attn_implementation("sdpa")
        calls = {
            "sur_adapter": lambda states=states: adapter(states),
            "text_encoder": lambda ids=ids: encoder(ids).last_hidden_state,
        }
        yield size, calls, truth


def more_prompts(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """More and more prompts at once."""
    adapter, exact = adapter_on(device)
    for size in sizes:
        states = torch.randn(size, 77, WIDTH, device=device)
        yield (
            size,
            {"sur_adapter": lambda states=states: adapter(states)},
            {"sur_adapter": exact(states.cpu().double())},
        )


def fill(folder: str, prompts: Sequence[str], vectors: Tensor) -> Tensor:
    """Write a store, file by file; give the number of its prompts."""
    store = TeacherStore(folder, FACTS)
    for start in range(0, len(prompts), SHARD):
        store.add(prompts[start : start + SHARD], vectors[start : start + SHARD])
    return torch.tensor([float(json.loads(Path(folder, "index.json").read_bytes())["count"])])


def stores(sizes: Sequence[int]) -> Iterator[tuple[int, list[str], Tensor, str]]:
    """Prompts, vectors, and a store of them whose files hold just these."""
    for size in sizes:
        prompts = [f"{number}: a red dog jumps over the fence, at dawn, oil on canvas" for number in range(size)]
        vectors = torch.randn(size, WIDTH)
        with tempfile.TemporaryDirectory() as folder:
            fill(folder, prompts, vectors)
            held = torch.cat([load_file(path)["emb"] for path in sorted(Path(folder).glob("*.safetensors"))])
            assert torch.equal(held, vectors.half())
            yield size, prompts, vectors, folder


def more_added(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """Into a new store."""

    def run(prompts: list[str], vectors: Tensor) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            return fill(folder, prompts, vectors)

    for size, prompts, vectors, _ in stores(sizes):
        yield size, {"sur_adapter": partial(run, prompts, vectors)}, {"sur_adapter": torch.tensor([float(size)])}


def more_held(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """As many look-ups, among more and more prompts."""

    def run(cache: TeacherCache, asked: list[str]) -> Tensor:
        for one in asked:
            found = cache[one]
        return found

    for size, prompts, vectors, folder in stores(sizes):
        places = random.Random(0).sample(range(size), ASKED)
        cache, asked = TeacherCache(folder), [prompts[place] for place in places]
        assert all(torch.equal(cache[prompts[place]], vectors[place].half()) for place in places)
        truth = vectors[places[-1]].half().double()
        yield size, {"sur_adapter": partial(run, cache, asked)}, {"sur_adapter": truth}


def more_read(sizes: Sequence[int], device: str) -> Iterator[Case]:
    """All vectors of a store."""
    for size, prompts, vectors, folder in stores(sizes):
        calls = {"sur_adapter": lambda folder=folder, prompts=prompts: TeacherCache(folder).vectors(prompts)}
        yield size, calls, {"sur_adapter": vectors.half().double()}


CASES = {"tokens": more_tokens, "batch": more_prompts, "add": more_added, "lookup": more_held, "read": more_read}


def rows_of(what: str, sizes: Sequence[int], device: str, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """The rows of one operation, size by size."""
    with torch.inference_mode():
        for size, calls, truth in CASES[what](sizes, device):
            # the check of a result costs more than a look-up: it is made once, and then the bare call is timed
            right = {name: Checked(lambda call=call: call().cpu(), truth[name]) for name, call in calls.items()}
            assert all((call() - 1).abs().max() < 1e-4 for call in right.values())
            rows = compare(
                f"growth_{what}",
                {name: lambda _, call=call: call().flatten()[:0] for name, call in calls.items()},
                lambda seed: [torch.zeros(1, device=device)],
                reference=lambda _: torch.zeros(0),
                tolerance=0.0,
                mode=MODE[what],
                shape=[size],
                dtype="float16" if what in ("add", "lookup", "read") else "float32",
                layout=LAYOUT[what],
                device=device,
                versions=VERSIONS,
                seconds=seconds,
            )
            rows[0]["peak_bytes"] = peak_bytes(calls["sur_adapter"], device)
            yield rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Time and memory against tokens, the batch and stored prompts.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="three small sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, help="what grows")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    correct = True
    for what in arguments.only:
        if arguments.device == "cuda" and what not in ("tokens", "batch"):
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
