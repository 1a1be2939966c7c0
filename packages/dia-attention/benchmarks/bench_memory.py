"""Peak memory of a training step, counted and not timed: bench_memory.py --out FILE [--device cpu] [--quick].

On a CPU the peak is exact: torch's profiler records every allocation and release of the allocator during forward and
backward, and the largest running sum is the peak. On CUDA it is the allocator's own peak. Parameters, gradients of them
and the images are there before, or are the same for all, except the gradients of the attention's own parameters, which
count. A row's `peak_bytes` is that number, `model_bytes` that of the plain net, and `peer_ratio` the peer's divided by
ours.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from dia_attention._bench import label, networks
from sail_core.bench import append_rows, compare
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

ATTENTIONS = ("dia", "se", "ras", "lsas", "asr", "step")


def peak_bytes(net: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Most bytes that forward and backward of one step hold beyond what was held before."""

    def step() -> None:
        nn.functional.cross_entropy(net(images), labels).backward()
        net.zero_grad(set_to_none=True)

    step()
    if images.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    if held or not events:
        raise RuntimeError(f"the step leaves {held} bytes of {len(events)} allocations: the count would be wrong")
    return peak


def main(argv: Sequence[str] | None = None) -> int:
    """Append one row for each network."""
    parser = argparse.ArgumentParser(description="Peak memory of a training step, ResNet-164 with each attention.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="ResNet-29, batch 4, to see that it runs")
    arguments = parser.parse_args(argv)
    depth, batch = (29, 4) if arguments.quick else (164, 32)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, 32, 32, generator=generator).to(arguments.device)
    labels = torch.randint(10, (batch,), generator=generator).to(arguments.device)
    nets = networks(depth, ATTENTIONS)
    found = {name: peak_bytes(net.to(arguments.device), images, labels) for name, net in nets.items()}
    rows = compare(  # for the form of the rows; the times of these calls mean nothing and are removed
        f"resnet{depth}_memory",
        {name: lambda *_: images.new_ones(()) for name in found},
        lambda seed: [images],
        reference=lambda *_: images.new_ones(()),
        tolerance=0.0,
        mode="fwdbwd",
        shape=images.shape,
        dtype="float32",
        layout="nchw",
        device=arguments.device,
        seconds=0.001,
    )
    for row in rows:
        ours = found[row["impl"]]
        row |= dict.fromkeys(("rep", "median_us", "p20_us", "p80_us", "first_us", "host_us", "graph_us"))
        row |= {"noisy": False, "peak_bytes": ours, "model_bytes": found["plain"]}
        row["peer_ratio"] = {peer: other / ours for peer, other in found.items() if peer != row["impl"]}
    label(rows, ATTENTIONS)
    append_rows(arguments.out, rows)
    for name, value in found.items():
        print(
            f"resnet{depth}, batch {batch}: {name:19} {value / 2**20:8.1f} MiB, {value / found['plain']:.4f} of plain"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
