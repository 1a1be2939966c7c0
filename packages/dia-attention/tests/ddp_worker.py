"""One of two processes of test_ddp.py: train a shard under DDP or FSDP2 and write weights and statistics."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from dia_attention import cifar_resnet
from safetensors.torch import save_file
from sail_core.ops import backend
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))
from chain import Chain


def batches(steps):
    """The same global batches in every process: eight images and labels a step."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        yield torch.randn(8, 3, 8, 8, generator=generator).double(), torch.randint(4, (8,), generator=generator)


def network(name):
    """A net whose mean gradient over shards is that of the whole batch: no statistics over the batch.

    ``chain`` has every attention; its norms are in evaluation mode, and so the two shards are independent.
    """
    torch.manual_seed(0)
    if name != "chain":
        options = {} if name != "lsas" else {"stages": (0, 1, 2)}
        net = cifar_resnet(20, attention=name, norm=None, num_classes=4, **options)
    else:
        net = Chain()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return net.double()  # so that rounding does not hide a wrong gradient


def train(model, shard, steps):
    """SGD on ``shard`` of every batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for images, labels in batches(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[shard]), labels[shard]).backward()
        optimizer.step()


def main(rank, folder, form, steps, wrap, name):
    """Train the even or the odd images, by rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(folder, "store").as_uri(), rank=rank, world_size=2)
    net = network(name)
    if wrap == "ddp":
        if rank:  # what DDP broadcasts must replace this
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.zero_()
        model = DistributedDataParallel(net)
    else:
        for stage in (net.layer1, net.layer2, net.layer3):
            fully_shard(stage)
        model = fully_shard(net)
    with backend(form):
        train(model, slice(rank, None, 2), steps)
    state = {key: value.full_tensor() if wrap == "fsdp" else value for key, value in net.state_dict().items()}
    save_file(state, Path(folder, f"rank{rank}.safetensors"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5], sys.argv[6])
