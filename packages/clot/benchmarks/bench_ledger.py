"""What the ledger costs: bench_ledger.py --out FILE [--device cpu|cuda] [--quick].

``ledger_time``: time inside the ledger during an epoch of refinement with a Qwen2.5-VL of 179 thousand parameters, five
candidates of 16 tokens, letters in all orders; the peer is the whole epoch. Process time (``cpu``) and elapsed time
(``wall``), which waits for the disk. A model that is used for more than tests takes longer for the same ledger. The
shape is prompts and candidates of each.

``ledger_memory``: most bytes that Python holds while a ledger is written and then replayed; a count, not a time, in the
place of the time. The peer is a ledger with a hundredth of the candidates.
"""

import argparse
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clot import NounSet, __version__, self_refine
from clot import _refine as refinement
from clot._candidate import Block, Move
from clot._ledger import Ledger
from clot._stages import Sampling
from clot._world import World, make_world
from sail_core.bench import append_rows, make_row


class Timed(Ledger):
    """Counts the time spent inside."""

    spent = {"cpu": 0.0, "wall": 0.0}  # noqa: RUF012  of all ledgers, reset for each epoch

    def _timed(self, name: str, *arguments: Any) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            return getattr(Ledger, name)(self, *arguments)
        finally:
            self.spent["cpu"] += time.process_time() - cpu
            self.spent["wall"] += time.perf_counter() - wall

    def mark(self, line: Any) -> None:
        """As the ledger's."""
        self._timed("mark", line)

    def replay(self, block: Block) -> None:
        """As the ledger's."""
        self._timed("replay", block)

    def commit(self, block: Block, stage: Sequence[Move]) -> None:
        """As the ledger's."""
        self._timed("commit", block, stage)


def epoch(backend: Any, world: World, out: Path, prompts: int) -> dict[str, tuple[float, float]]:
    """Refine once; give the time of the ledger and of all."""
    Timed.spent |= {"cpu": 0.0, "wall": 0.0}
    cpu, wall = time.process_time(), time.perf_counter()
    self_refine(
        backend, world.records, NounSet.from_words(world.nouns, "en"), out=out, limit=prompts, min_discrimination=0.0,
        held_out=world.records[:6], pictures=world.pictures, sampling=Sampling(max_new_tokens=16),
    )  # fmt: skip
    whole = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return {mode: (Timed.spent[mode], whole[mode]) for mode in whole}


def fill(path: Path, records: int) -> None:
    """Write a ledger of five candidates a record, or replay it."""
    values = {"text": "some answer of a usual length, more or less", "rank": 1, "score": 0.25, "preference": 0.5}
    values |= {"truth": 0.25, "chosen": True, "margin": 0.25, "condition": None, "reason": "rank"}
    from clot._candidate import FIELDS

    with Ledger(path, "c") as ledger:
        for start in range(0, records, 16):
            block = Block.of(1, [f"record-{at:08d}" for at in range(start, start + 16)], 5)
            ledger.replay(block)
            for state in ("planned", "generated", "ranked", "selected", "kept"):
                if pending := block.pending():
                    move: Move = (state, {name: values[name] for name in FIELDS[state]})  # type: ignore[assignment]
                    ledger.commit(block, [move] * len(pending))


def peak(records: int) -> tuple[int, int]:
    """Most bytes held, and the size of the file."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "ledger.jsonl")
        tracemalloc.start()
        for _ in range(2):
            fill(path, records)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most, path.stat().st_size


def pair(
    op: str, mode: str, shape: list[int], own: list[float], peer: list[float], name: str, device: str
) -> list[dict[str, Any]]:
    """Two rows of what was measured here."""
    medians = {one: sorted(values)[len(values) // 2] for one, values in (("ledger", own), (name, peer))}
    return [
        make_row(
            op,
            one,
            device=device,
            impl_version=__version__,
            mode=mode,
            shape=shape,
            dtype="records",
            layout="jsonl",
            rep=len(values),
            median_us=medians[one],
            p20_us=min(values),
            p80_us=max(values),
            first_us=values[0],
            correct=True,
            noisy=False,
            peer_ratio={other: median / medians[one] for other, median in medians.items() if other != one},
        )
        for one, values in (("ledger", own), (name, peer))
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows."""
    parser = argparse.ArgumentParser(description="What the ledger costs.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="few prompts, to see that it runs")
    arguments = parser.parse_args(argv)
    from clot.integrations.hf import HFBackend
    from clot.integrations.tiny import tiny_model, tiny_processor

    prompts, repeats, records = (4, 1, 64) if arguments.quick else (32, 3, 4_000)
    world = make_world(prompts=prompts + 4)
    processor = tiny_processor(texts=world.texts())
    backend = HFBackend(tiny_model(processor).to(arguments.device), processor)
    refinement.Ledger = Timed  # type: ignore[misc]
    times: dict[str, list[tuple[float, float]]] = {"cpu": [], "wall": []}
    with tempfile.TemporaryDirectory() as name:
        epoch(backend, world, Path(name, "warm"), 2)
        for at in range(repeats):
            for mode, both in epoch(backend, world, Path(name, str(at)), prompts).items():
                times[mode].append(both)
    rows = []
    for mode, pairs in times.items():
        own, whole = ([1e6 * one for one in side] for side in zip(*pairs, strict=True))
        rows += pair("ledger_time", mode, [prompts, 5], own, whole, "epoch", arguments.device)
        print(f"ledger, {mode}: {100 * sorted(own)[len(own) // 2] / sorted(whole)[len(whole) // 2]:.2f} % of an epoch")
    if arguments.device == "cpu":
        (large, size), (small, _) = peak(records), peak(records // 100 or 16)
        shape = [5 * records]
        memory = pair("ledger_memory", "bytes", shape, [float(large)], [float(small)], "hundredth", "cpu")
        memory[0] |= {"peak_bytes": large, "model_bytes": size}
        memory[1] |= {"peak_bytes": small}
        rows += memory
        print(f"ledger of {5 * records:,} candidates, {size:,} bytes: {large:,} bytes held; of a hundredth: {small:,}")
    append_rows(arguments.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
