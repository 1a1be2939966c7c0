"""One of two processes of test_torchmetrics.py: count half of the dialogues and write what the metrics say of all."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from cem_mhch.integrations.torchmetrics import handoff_metrics


def main(rank, folder):
    """Read the even or the odd rows, by rank; the metrics reduce over both processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(folder, "store").as_uri(), rank=rank, world_size=2)
    rows = json.loads(Path(folder, "rows.json").read_text())
    metrics = handoff_metrics()
    metrics.update(torch.tensor(rows["scores"][rank::2]), torch.tensor(rows["labels"][rank::2]))
    found = {name: value.item() for name, value in metrics.compute().items()}
    Path(folder, f"rank{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
