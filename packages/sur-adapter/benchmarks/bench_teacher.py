"""What teacher and training cost: bench_teacher.py --out FILE [--device cpu|cuda] [--quick] [--only OP ...].

Operations:
    lookup   Timed: one look-up in a cache of 500 vectors, each prompt in turn.
    encode   Timed: MiniLM over the 500 real prompts of SAIL_DATA/surd (a part with --quick), from texts to a cache on
             the disk; `unsorted` is transformers' own way, batches of 32 in the order in which they come, padded to
             their longest. Both vectors must agree.
    scaling  Timed: ours over a fifth and a half of the prompts, to see the cost against their number.
    train    Timed: one training step at SD1.5's widths with random weights (forward, backward, AdamW), 1 image of
             128 x 128 pixels, 77 tokens: ours is the alignment run, without diffusion; `diffusion` is the whole loss.

Encoding and training steps are long: each is run --rounds times, in turn with its peer, and the median is kept; they
have no second run of ours to judge the noise by: `noisy` says that rounds differ by more than 5 %, or that it was one.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import transformers
from sail_core.bench import append_rows, compare, make_row
from sur_adapter import SURAdapter, __version__
from sur_adapter._minilm import minilm_folder
from sur_adapter._noise import SchedulerNoise
from sur_adapter._step import Step, Weights
from sur_adapter._student import Batch, Student
from sur_adapter._teacher_cache import TeacherCache, TeacherFacts
from sur_adapter._teacher_encode import encode_teacher
from sur_adapter._teacher_store import TeacherStore
from torch import Tensor

OPERATIONS = ("lookup", "encode", "scaling", "train")
VERSIONS = {"sur_adapter": __version__, "unsorted": transformers.__version__, "diffusion": __version__}


def real_prompts() -> list[str]:
    """The prompts of SAIL_DATA/surd, as they are."""
    path = Path(os.environ["SAIL_DATA"], "surd", "civitai_prompts_sample.json")
    return [record["prompt"] for record in json.loads(path.read_text(encoding="utf-8"))]


def measured(
    op: str, calls: Mapping[str, Callable[[], object]], rounds: int, shape: Sequence[int], device: str
) -> list[dict]:
    """Rows of long calls, run in turn; all of them have been found right before."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    clock = time.process_time if device == "cpu" else time.perf_counter
    for _ in range(rounds):
        for name, call in calls.items():
            begin = clock()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            samples[name].append(1e6 * (clock() - begin))
    medians = {name: statistics.median(values) for name, values in samples.items()}
    return [
        make_row(
            op,
            name,
            device=device,
            impl_version=VERSIONS[name],
            mode="run",
            shape=list(shape),
            dtype="float32",
            layout="n",
            rep=rounds,
            median_us=medians[name],
            p20_us=min(values),
            p80_us=max(values),
            first_us=values[0],
            correct=True,
            noisy=rounds < 2 or max(values) / min(values) > 1.05,
            peer_ratio={peer: other / medians[name] for peer, other in medians.items() if peer != name},
        )
        for name, values in samples.items()
    ]


def bench_lookup(device: str, quick: bool, rounds: int) -> list[dict]:
    """A look-up alone."""
    prompts = real_prompts()
    facts = TeacherFacts(model="m", layer="-1", pooling="mean", dtype="float16", dim=5120)
    vectors = torch.randn(len(prompts), 5120)
    with tempfile.TemporaryDirectory() as folder:
        TeacherStore(folder, facts).add(prompts, vectors)
        cache, turn = TeacherCache(folder), itertools.cycle(prompts)
        assert all(torch.equal(cache[one], vector.half()) for one, vector in zip(prompts, vectors, strict=True))
        return compare(
            "teacher_lookup",
            {"sur_adapter": lambda *_: cache[next(turn)][:0]},
            lambda seed: [torch.zeros(1)],
            reference=lambda *_: torch.zeros(0),
            tolerance=0.0,
            mode="fwd",
            shape=[len(prompts), 5120],
            dtype="float16",
            layout="n",
            device="cpu",
            versions=VERSIONS,
            seconds=0.2 if quick else 3.0,
        )


class Encoders:
    """MiniLM over some prompts, ours and transformers' own way."""

    def __init__(self, prompts: Sequence[str], device: str) -> None:
        self.prompts, self.device = list(prompts), device
        folder = str(minilm_folder())
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModel.from_pretrained(folder).to(device).eval()

    def ours(self) -> Tensor:
        """Into a cache on the disk, loading of the model included."""
        with tempfile.TemporaryDirectory() as folder:
            encode_teacher(self.prompts, folder, model="minilm", dtype="f32", device=self.device)
            return TeacherCache(folder).vectors(self.prompts).clone()

    @torch.inference_mode()
    def unsorted(self) -> Tensor:
        """Batches of 32 as they come."""
        found = []
        for start in range(0, len(self.prompts), 32):
            batch = self.prompts[start : start + 32]
            inputs = self.tokenizer(batch, padding=True, truncation=True, max_length=512, return_tensors="pt")
            inputs = inputs.to(self.device)
            mask = inputs["attention_mask"][..., None]
            found.append((self.model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1))
        return torch.cat(found).cpu()


def bench_encode(device: str, quick: bool, rounds: int) -> list[dict]:
    """Ours against batches in the order they come."""
    prompts = real_prompts()[: 40 if quick else None]
    encoders = Encoders(prompts, device)
    gap = (encoders.ours() - encoders.unsorted()).abs().max().item()
    if gap > 1e-3:
        raise ValueError(f"the vectors differ by {gap}")
    calls = {"sur_adapter": encoders.ours, "unsorted": encoders.unsorted}
    return measured("teacher_encode", calls, rounds, [len(prompts)], device)


def bench_scaling(device: str, quick: bool, rounds: int) -> list[dict]:
    """Ours over more and more prompts."""
    prompts, rows = real_prompts(), []
    for count in (10, 20) if quick else (100, 250):
        calls = {"sur_adapter": Encoders(prompts[:count], device).ours}
        rows += measured("teacher_encode_scaling", calls, rounds, [count], device)
    return rows


def bench_train(device: str, quick: bool, rounds: int) -> list[dict]:
    """A step without and with diffusion."""
    from diffusers import DDPMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    sizes = {"block_out_channels": (32, 64, 64, 64), "attention_head_dim": 8} if quick else {"attention_head_dim": 8}
    unet = UNet2DConditionModel(sample_size=16, cross_attention_dim=768, **sizes).to(device).requires_grad_(False)
    states = {kind: {"text_encoder": torch.randn(1, 77, 768, device=device)} for kind in ("narrative", "complex")}
    batch = Batch(latents=torch.randn(1, 4, 16, 16, device=device), **states)
    u, eps = torch.tensor([0.5], device=device), torch.randn(1, 4, 16, 16, device=device)

    def denoise(noisy: Tensor, t: Tensor, text: Mapping[str, Tensor], extra: Mapping[str, Tensor]) -> Tensor:
        return unet(noisy, t, encoder_hidden_states=text["text_encoder"]).sample

    calls = {}
    for name, weight in (("sur_adapter", 0.0), ("diffusion", 1.0)):
        student = Student({"text_encoder": SURAdapter(768, device=device)})
        step = Step(denoise, SchedulerNoise(DDPMScheduler()), weights=Weights(diffusion=weight, teacher=0.0))
        optimizer = torch.optim.AdamW(student.parameters(), 1e-4)

        def run(student: Student = student, step: Step = step, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            step(student, batch, u, eps)["loss"].backward()
            optimizer.step()

        run()
        assert student.adapter("text_encoder").fc.weight.grad.abs().max() > 0
        calls[name] = run
    return measured("train_step", calls, max(rounds, 3), [1, 77, 768], device)


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows of each operation."""
    parser = argparse.ArgumentParser(description="What teacher and training cost.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="few prompts and a small UNet, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=OPERATIONS, default=OPERATIONS, help="operations")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each long call")
    arguments = parser.parse_args(argv)
    if "SAIL_DATA" not in os.environ and set(arguments.only) != {"train"}:
        parser.error("set SAIL_DATA to the folder with surd/civitai_prompts_sample.json")
    torch.set_num_threads(1)
    for op in arguments.only:
        rows = globals()[f"bench_{op}"](arguments.device, arguments.quick, arguments.rounds)
        append_rows(arguments.out, rows)
        for row in rows:
            ratios = {name: round(ratio, 3) for name, ratio in row["peer_ratio"].items()}
            noisy = " noisy" if row["noisy"] else ""
            print(
                f"{row['op']:24} {row['impl']:12} {row['shape']} {row['median_us']:.1f} us {ratios}{noisy}", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
