"""Trains in a process of its own, or as one of several that torchrun started; prints what it ended with."""

import hashlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import train_world
from accelerate import Accelerator
from sur_adapter.integrations.training import train

if __name__ == "__main__":
    torch.set_num_threads(1)
    world, directory, changes = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    result = train(train_world.config(world, **changes), directory, device="cpu")
    digest, tensors = hashlib.sha256(), train_world.adapter_tensors(result)
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    told = {"pid": os.getpid(), "processes": Accelerator(cpu=True).num_processes, "steps": result.steps}
    told |= {"hash": digest.hexdigest(), "fc": tensors["text_encoder.fc.weight"].double().sum().item()}
    (directory / f"told-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(told))
