"""A training run in a process of its own: train_worker.py BASE OUT [parallel]."""

import os
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


def main(base, out, parallel="ddp"):
    """Train: ten instructions a step, so two processes take five each, in passes of three and two."""
    torch.set_num_threads(1)
    options = AITOptions(
        steps=6, batch=10, micro_batch=3, lr=1e-2, save_every=2, parallel=parallel, weighting="example"
    )
    train_ait(base, lessons(), out=out, options=options, lora=LoRA(r=4, dropout=0.0), device="cpu")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def member(rank, size, port, base, out, parallel):
    """Be one of several processes, with the variables that torchrun would set."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if size > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in places.items()})
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"})
    main(base, out, parallel)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
