"""One process or several: copies of the model whose gradients are averaged, or one model in shards."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor


class Group:
    """The processes that train together, by ``accelerate``.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        parallel: ``"ddp"`` or ``"fsdp2"``; without effect in a single process.
    """

    def __init__(self, *, device: str, parallel: Literal["ddp", "fsdp2"]) -> None:
        from accelerate import Accelerator
        from sail_core.runs import pick_device

        self._accelerator = Accelerator(cpu=pick_device(device).type == "cpu")
        self.size: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self.device: torch.device = self._accelerator.device
        self.shards = parallel == "fsdp2" and self.size > 1

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def wrap(self, model: Any, *, unused: bool) -> Any:
        """Make a model on this process's device train together with the others'.

        Args:
            model: The model, equal in all processes.
            unused: Whether a step may leave some trained weights without gradient.
        """
        if self.size == 1:
            return model
        if not self.shards:
            from torch.nn.parallel import DistributedDataParallel

            return DistributedDataParallel(model, find_unused_parameters=unused)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.size,))
        bare = model.get_base_model() if hasattr(model, "get_base_model") else model
        # The vision tower stays with the root, which all processes gather: a process without a picture does not run it.
        blocks = set(bare._no_split_modules or ())
        for name, module in bare.named_modules():
            if type(module).__name__ in blocks and "language_model" in name:
                fully_shard(module, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    def without_sync(self, model: Any, last: bool) -> AbstractContextManager[Any]:
        """Leave the averaging of gradients to the last of several backward passes."""
        if self.size == 1 or last:
            return nullcontext()
        if self.shards:
            return nullcontext()  # shards are reduced every time: their sum is the same
        return model.no_sync()  # type: ignore[no-any-return]

    def sum(self, values: Tensor) -> Tensor:
        """Add a tensor up over the processes."""
        return self._accelerator.reduce(values, reduction="sum")  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Return when all processes are here."""
        self._accelerator.wait_for_everyone()

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        self._accelerator.backward(loss)
