"""A training run in a process of its own: train_worker.py BASE OUT [parallel]."""

import sys
from pathlib import Path

import torch
from clot import Instruction, Prompt
from clot._world import make_world
from clot.integrations.training import AITOptions, LoRA, train_ait

WORLD = make_world(prompts=12, answers=5)


def lessons():
    """Instructions of two kinds, with and without pictures, of unlike lengths."""
    found = []
    for at, one in enumerate(WORLD.split("train")):
        kind, target = ("select", "A") if at % 3 == 0 else ("generate", one.text)
        prompt = Prompt(one.question or "Look.", WORLD.pictures.get(one.image))
        found.append(Instruction(one.id, kind, one.type, "en", prompt, target, one.id, image=one.image))
    return found


def options(parallel="ddp", steps=6):
    """Ten instructions a step: two processes take five each, in passes of three and two."""
    return AITOptions(
        steps=steps, batch=10, micro_batch=3, lr=1e-2, save_every=2, parallel=parallel, weighting="example"
    )


def main(base, out, parallel="ddp"):
    """Train."""
    torch.set_num_threads(1)
    done = train_ait(base, lessons(), out=out, options=options(parallel), lora=LoRA(r=4, dropout=0.0), device="cpu")
    print(done.steps, done.losses)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
