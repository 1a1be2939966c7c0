"""Peak memory of a training step, counted and not timed: bench_memory.py --out FILE [--device cpu] [--quick].

The peak is that of `sail_core.bench.peak_bytes`, exact on a CPU. Parameters and images are there before; the gradients
of the parameters count, and are the same for all except those of the attention's own. A row's `peak_bytes` is that
number, `model_bytes` that of the plain net, and `peer_ratio` the peer's divided by ours. As in `bench_step.py`, loss
and first gradient of each network must agree with its own in float64.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from dia_attention._bench import Step, label, networks
from sail_core.bench import append_rows, make_row, peak_bytes

ATTENTIONS = ("dia", "se", "ras", "lsas", "asr", "step")


def main(argv: Sequence[str] | None = None) -> int:
    """Append one row for each network; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="Peak memory of a training step, ResNet-164 with each attention.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="ResNet-29, batch 4, to see that it runs")
    arguments = parser.parse_args(argv)
    depth, batch = (29, 4) if arguments.quick else (164, 32)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (batch,), generator=generator)
    inputs = [value.to(arguments.device) for value in (images, labels)]
    errors, peaks = {}, {}
    for name, net in networks(depth, ATTENTIONS).items():
        step = Step(net, "nchw", arguments.device, images, labels)
        errors[name] = max(abs(value.item() - 1) for value in step(*inputs))
        peaks[name] = peak_bytes(lambda step=step: step(*inputs), arguments.device)
    rows = [
        make_row(
            f"resnet{depth}_memory",
            name,
            device=arguments.device,
            mode="fwdbwd",
            shape=list(images.shape),
            dtype="float32",
            layout="nchw",
            nbytes=images.nbytes,
            peak_bytes=peak,
            model_bytes=peaks["plain"],
            correct=errors[name] <= 5e-2,
            rel_err=errors[name],
            noisy=False,
            peer_ratio={peer: other / peak for peer, other in peaks.items() if peer != name},
        )
        for name, peak in peaks.items()
    ]
    label(rows, ATTENTIONS)
    append_rows(arguments.out, rows)
    for name, peak in peaks.items():
        wrong = f", wrong by {errors[name]:.2g}" if errors[name] > 5e-2 else ""
        share = peak / peaks["plain"]
        print(f"resnet{depth}, batch {batch}: {name:14} {peak / 2**20:8.1f} MiB, {share:.4f} of plain{wrong}")
    return 0 if all(row["correct"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
