"""Several processes of one training: started by torchrun, each takes its share of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Group:
    """The processes of a training; one of one without torchrun.

    Attributes:
        rank: This process, 0 .. size - 1.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """This process's images and labels of a batch."""
        images, labels = batch
        return images[self.rank :: self.size], labels[self.rank :: self.size]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose gradients and buffers are those of the whole group."""
        return model if self.size == 1 else DistributedDataParallel(model)

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, without a gradient."""
        value = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def agree(self, model: nn.Module) -> None:
        """Give every process the buffers of the first, for running statistics are each process's own."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[Group, torch.device]]:
    """Join the group that torchrun describes in the environment, and leave it at the end.

    Args:
        device: What the user chose; with CUDA every process takes the GPU of its local rank.

    Yields:
        The group and this process's device.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield Group(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
