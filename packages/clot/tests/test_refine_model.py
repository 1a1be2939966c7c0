"""Self-refinement with a real model of the class: the same bytes after a crash, and a training in between."""

import shutil
import sys
from pathlib import Path

import pytest
from clot import NounSet, Sampling, Templates, self_refine
from clot._gates import Gates
from clot._ledger import read_ledger

sys.path.insert(0, str(Path(__file__).parent))


def refine(backend, world, out, **options):
    given = {"n": 3, "batch": 2, "limit": 4, "min_discrimination": 0.0, "sampling": Sampling(max_new_tokens=8)}
    given |= {
        "held_out": world.split("test"),
        "pictures": world.pictures,
        "gates": Gates(language=False, repetition=1.0),
    }
    return self_refine(
        backend, world.split("train"), NounSet.from_words(world.nouns, "en"), out=out, **(given | options)
    )


class Stopped(Exception):
    pass


class Mortal:
    def __init__(self, backend, calls):
        self.backend, self.left, self.digest = backend, calls, backend.digest

    def call(self, name, requests):
        self.left -= 1
        if self.left < 0:
            raise Stopped
        return getattr(self.backend, name)(requests)

    def generate(self, requests):
        return self.call("generate", requests)

    def option_logprobs(self, requests):
        return self.call("option_logprobs", requests)


def test_a_crash_with_a_real_model(backend, tiny_world, tmp_path):
    whole = refine(backend, tiny_world, tmp_path / "whole")
    assert whole.rounds[0].summary["steps"]["generated"] == 12
    for calls in (1, 3, 5):
        out = tmp_path / str(calls)
        with pytest.raises(Stopped):
            refine(Mortal(backend, calls), tiny_world, out)
        refine(backend, tiny_world, out)
        for name in ("ledger.jsonl", "round-1/kept.jsonl", "round-1/summary.json"):
            assert (out / name).read_bytes() == (whole.out / name).read_bytes()


@pytest.mark.parametrize("scorer", ["content", "pmi", "generate"])
def test_every_scorer(tiny_backends, tiny_world, tmp_path, scorer):
    done = refine(tiny_backends["qwen2_5_vl"], tiny_world, tmp_path, scorer=scorer, limit=2)
    ends = [
        line["state"] for line in read_ledger(tmp_path / "ledger.jsonl") if line.get("state") in ("kept", "dropped")
    ]
    assert len(ends) == 6
    assert done.rounds[0].summary["steps"]["planned"] == 6


def test_two_rounds_train_in_between_and_resume(tiny_folders, tiny_world, tmp_path):
    pytest.importorskip("peft")
    from clot import AITOptions, HFBackend, InstructionMix, LoRA, build_instructions, train_ait

    base = tiny_folders["qwen2_5_vl"]
    mix = InstructionMix(select=0, rank=0, mask=0, per_record=1)
    seen = []

    def retrain(round, records, *, restart, out):
        seen.append((round, len(records)))
        instructions = build_instructions(
            records, mix, nouns=lambda one: [noun for noun in tiny_world.nouns if noun in one.text],
            pictures=tiny_world.pictures, templates=Templates(),
        )  # fmt: skip
        options = AITOptions(steps=2, batch=4, micro_batch=4, lr=1e-3)
        adapter = seen_adapters[-1] if restart == "previous" and seen_adapters else None
        done = train_ait(
            base, list(instructions), out=out, options=options, lora=LoRA(r=2), adapter=adapter, device="cpu"
        )
        seen_adapters.append(done.folder)
        return HFBackend.from_pretrained(base, adapter=done.folder, device="cpu")

    def run(out):
        seen_adapters.clear()
        return refine(
            HFBackend.from_pretrained(base, device="cpu"), tiny_world, out, rounds=2, retrain=retrain, limit=3,
            scorer="content",
        )  # fmt: skip

    seen_adapters = []
    first = run(tmp_path / "one")
    assert [round for round, _ in seen] == [1, 2]
    assert seen[0][1] >= len(tiny_world.split("train"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    ledger = (tmp_path / "two" / "ledger.jsonl").read_bytes()
    cut = ledger.index(b'{"round":2,"record"') + 500
    (tmp_path / "two" / "ledger.jsonl").write_bytes(ledger[:cut])  # killed in the second round
    second = run(tmp_path / "two")
    assert (tmp_path / "two" / "ledger.jsonl").read_bytes() == ledger
    assert first.backend.digest == second.backend.digest
    models = [line["model"] for line in read_ledger(tmp_path / "one" / "ledger.jsonl") if "model" in line]
    assert len(set(models)) == 2
