"""One of the processes that torchrun starts in test_ddp_train."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from dia_attention._distributed import process_group
from dia_attention._train import TrainConfig, build, fit

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import data as images


def config(norm):
    """Four steps an epoch of ten images, of which each process takes five."""
    return TrainConfig(
        depth=11,
        per_class=4,
        epochs=4,
        batch_size=10,
        batch_norm=norm == "batch",
        checkpoint_every=3,
        learning_rate=0.02,
    )


data = images


def main(directory, norm):
    """Train in `directory` and write what this process was told."""
    torch.set_num_threads(1)
    settings = config(norm)
    with process_group(torch.device("cpu")) as (group, device):
        result = fit(build(settings, data(settings)), data(settings), settings, directory, device=device, group=group)
    directory.with_name(f"{directory.name}-{group.rank}.json").write_text(json.dumps(asdict(result)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
