"""One of two gloo processes: trains a scaled U-ViT or UNet on its half of each batch and prints what it ends with."""

import json
import os
import sys

import torch
import torch.distributed as dist
from scalelong import attach
from scalelong.nn import UViT
from torch.nn.parallel import DistributedDataParallel


def train(mode, half):
    torch.manual_seed(0)
    net = UViT(8, 2, 1, 16, 6, 2, dtype=torch.float64)
    if mode in ("cs", "ls_scalar", "ls"):
        attach(net, mode, reduction=4)
    model = DistributedDataParallel(net) if half is not None else net
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64)
        t = torch.randint(1000, (4,), generator=generator)
        part = slice(None) if half is None else slice(2 * half, 2 * half + 2)
        optimizer.zero_grad()
        (model(x[part], t[part]) - x[part]).square().mean().backward()
        optimizer.step()
    return {name: p.detach().abs().sum().item() for name, p in net.named_parameters()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    result = train(sys.argv[1], dist.get_rank())
    print(json.dumps({"pid": os.getpid(), "world": dist.get_world_size(), "result": result}))
    dist.destroy_process_group()
