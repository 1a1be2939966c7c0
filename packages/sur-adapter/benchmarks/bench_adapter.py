"""What an adapter costs at inference: bench_adapter.py --out FILE [--device cpu] [--quick] [--only OP ...].

Operations, for SD1.5 (an adapter of 768 channels) and SDXL (of 768 and 1280):
    flops_*         Counted on the meta device, not timed: ours is the adapters on a prompt and its negative (2 x 77
                    tokens), `guided_unet_step` one step of the UNet on both, `text_encoder` the text encoders.
    text_encoder_*  Timed, 2 x 77 tokens: ours is the adapter, the peer the text encoder in front of it.
    hook            Timed: an encoder that does nothing with a small adapter attached, against calling one after the
                    other (`explicit`). The row of mode `difference` has the difference of the two as its time.
    prompt_cache    Timed: a hit, against encoding (`encode`).
    checkpoint      Counted: bytes of the folder in fp16 at 768 channels (`nbytes`). `original` is the file that the
                    authors' training saves.

Every ratio is the peer's divided by ours. Timed networks are held against themselves in float64, the text encoders
against transformers' eager attention. Rows that are counted have no times.
"""

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import UNet2DConditionModel
from sail_core.bench import append_rows, compare, make_row
from sur_adapter import PromptCache, SURAdapter, __version__
from sur_adapter.integrations.diffusers import attach
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.modeling_outputs import BaseModelOutput

OPERATIONS = ("flops", "text_encoder", "hook", "prompt_cache", "checkpoint")
VERSIONS = {"sur_adapter": __version__, "text_encoder": transformers.__version__}
VERSIONS |= {"guided_unet_step": diffusers.__version__, "encode": __version__, "explicit": __version__}
SIZES = {"sd15": (768,), "sdxl": (768, 1280)}
TOKENS = (2, 77)


def text_encoder(width: int) -> nn.Module:
    """CLIP ViT-L's text encoder, or OpenCLIP ViT-bigG's, with random weights."""
    if width == 768:
        config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        return CLIPTextModel(config).eval()
    wide = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    return CLIPTextModelWithProjection(CLIPTextConfig(**wide, hidden_act="gelu", projection_dim=1280)).eval()


def unet(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The UNet and the inputs of one guided step."""
    if name == "sd15":
        model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        return model, {"sample": torch.empty(2, 4, 64, 64), "encoder_hidden_states": torch.empty(*TOKENS, 768)}
    blocks = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
    model = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=blocks,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    added = {"text_embeds": torch.empty(2, 1280), "time_ids": torch.empty(2, 6)}
    inputs = {"sample": torch.empty(2, 4, 128, 128), "encoder_hidden_states": torch.empty(*TOKENS, 2048)}
    return model, {**inputs, "added_cond_kwargs": added}


def count_flops(name: str) -> dict[str, int]:
    """Floating-point operations, an addition and a multiplication each one."""
    found = {"sur_adapter": 0, "text_encoder": 0, "guided_unet_step": 0}
    with torch.device("meta"), torch.no_grad():

        def add(what: str, run: Callable[[], object]) -> None:
            with FlopCounterMode(display=False) as counter:
                run()
            found[what] += counter.get_total_flops()

        for width in SIZES[name]:
            adapter, encoder = SURAdapter(width).eval(), text_encoder(width)
            add("sur_adapter", lambda adapter=adapter, width=width: adapter(torch.empty(*TOKENS, width)))
            add("text_encoder", lambda encoder=encoder: encoder(torch.zeros(TOKENS, dtype=torch.long)))
        model, inputs = unet(name)
        add("guided_unet_step", lambda: model(timestep=torch.zeros(2), **inputs))
    return found


class Checked:
    """A call whose result, over what is right, is 1."""

    def __init__(self, run: Callable[[], Tensor], exact: Tensor) -> None:
        self.run, self.exact = run, exact
        self.scale = exact.abs().max()

    def __call__(self, *_: object) -> Tensor:
        """Give a number per result that is 1 where it is right, to one part in the largest."""
        return 1 + (self.run().to(self.exact.dtype) - self.exact) / self.scale


def timed(op: str, calls: Mapping[str, Checked], shape: Sequence[int], device: str, seconds: float) -> list[dict]:
    """Rows of calls that run on inputs of their own."""
    sizes = {name: call.exact.shape for name, call in calls.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"the results differ in shape: {sizes}")
    (size,) = set(sizes.values())
    with torch.inference_mode():
        return compare(
            op,
            calls,
            lambda seed: [torch.zeros(1, device=device)],
            reference=lambda *_: torch.ones(size, dtype=torch.float64, device=device),
            tolerance=1e-4,
            mode="fwd",
            shape=shape,
            dtype="float32",
            layout="btd",
            device=device,
            versions=VERSIONS,
            seconds=seconds,
        )


def counted(op: str, values: Mapping[str, int], shape: Sequence[int], dtype: str, device: str) -> list[dict]:
    """Rows of numbers that were counted."""
    return [
        make_row(
            op,
            name,
            device=device,
            impl_version=VERSIONS.get(name),
            mode="count",
            shape=list(shape),
            dtype=dtype,
            layout="btd",
            correct=True,
            noisy=False,
            peer_ratio={peer: other / own for peer, other in values.items() if peer != name},
        )
        for name, own in values.items()
    ]


def bench_flops(device: str, seconds: float, quick: bool) -> list[dict]:
    """Counts, at real sizes."""
    rows = []
    for name in ["sd15"] if quick else SIZES:
        found = count_flops(name)
        share = found["sur_adapter"] / found["guided_unet_step"]
        print(f"flops_{name}: {found}, the adapter is {share:.4%} of a guided step")
        rows += counted(f"flops_{name}", found, (*TOKENS, sum(SIZES[name])), "float32", device)
    return rows


def bench_text_encoder(device: str, seconds: float, quick: bool) -> list[dict]:
    """Times, at real sizes."""
    rows = []
    for name, width in (("sd15", 768),) if quick else (("sd15", 768), ("sdxl_2", 1280)):
        torch.manual_seed(0)
        encoder, adapter = text_encoder(width).to(device), SURAdapter(width).eval().to(device)
        nn.init.normal_(adapter.fc.weight, std=width**-0.5)
        ids, states = torch.randint(1, 49000, TOKENS, device=device), torch.randn(*TOKENS, width, device=device)
        with torch.inference_mode():
            encoder.set_attn_implementation("eager")
            truth = encoder(ids).last_hidden_state.double()
            encoder.set_attn_implementation("sdpa")
            exact = copy.deepcopy(adapter).double()(states.double())
        calls = {
            "sur_adapter": Checked(lambda adapter=adapter, states=states: adapter(states), exact),
            "text_encoder": Checked(lambda encoder=encoder, ids=ids: encoder(ids).last_hidden_state, truth),
        }
        rows += timed(f"text_encoder_{name}", calls, (*TOKENS, width), device, seconds)
    return rows


class NullEncoder(nn.Module):
    """Returns what it was made with, as a text encoder does its states."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.config = CLIPTextConfig(hidden_size=states.shape[-1])
        self.output = BaseModelOutput(last_hidden_state=states)

    def forward(self, input_ids: Tensor) -> BaseModelOutput:
        """Return the states."""
        return self.output


def bench_hook(device: str, seconds: float, quick: bool) -> list[dict]:
    """The price of the hook itself."""
    torch.manual_seed(0)
    states, ids = torch.randn(1, 8, 8, device=device), torch.zeros(1, 8, dtype=torch.long, device=device)
    adapter = SURAdapter(8, depth=1, num_heads=1, ff_dim=8).eval().to(device)
    nn.init.normal_(adapter.fc.weight)
    encoder, bare = NullEncoder(states), NullEncoder(states)
    pipe = type("Pipe", (), {"text_encoder": encoder, "components": {"text_encoder": encoder}})()
    exact = copy.deepcopy(adapter).double()(states.double()).detach()
    with attach(pipe, adapter, slots={"text_encoder": "last"}):
        calls = {
            "sur_adapter": Checked(lambda: encoder(ids).last_hidden_state, exact),
            "explicit": Checked(lambda: adapter(bare(ids).last_hidden_state), exact),
        }
        rows = timed("hook", calls, states.shape, device, seconds)
    if not all(row["correct"] for row in rows):
        return rows
    kept = ("impl_version", "shape", "dtype", "layout", "rep", "correct", "noisy")
    difference = make_row(
        "hook",
        "sur_adapter",
        device=device,
        mode="difference",
        median_us=rows[0]["median_us"] - rows[1]["median_us"],
        **{name: rows[0][name] for name in kept},
    )
    return [*rows, difference]


def bench_prompt_cache(device: str, seconds: float, quick: bool) -> list[dict]:
    """A hit with as many parameters to watch as SDXL's encoders have; their width does not matter to it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import tiny_pipelines as tiny

    pipe = tiny.build("sdxl")
    pipe.register_modules(
        text_encoder=tiny.clip(32, layers=12), text_encoder_2=tiny.clip(48, projected=True, layers=32)
    )
    pipe.to(device)
    handle = attach(pipe, tiny.trained_for("sdxl"))
    cache = PromptCache(handle)
    prompts = ("a red dog jumps over the fence", "ugly, blurry")
    exact = handle.encode(*prompts)["prompt_embeds"].double()
    calls = {
        "sur_adapter": Checked(lambda: cache.encode(*prompts)["prompt_embeds"], exact),
        "encode": Checked(lambda: handle.encode(*prompts)["prompt_embeds"], exact),
    }
    bare = {name: call.run for name, call in calls.items()}  # the check would cost more than the hit
    rows = timed("prompt_cache", calls, exact.shape, device, 0.1)
    with torch.inference_mode():
        times = compare(
            "prompt_cache",
            {name: lambda *_, run=run: run() for name, run in bare.items()},
            lambda seed: [torch.zeros(1, device=device)],
            reference=lambda *_: exact.float(),
            tolerance=1e-6,
            mode="fwd",
            shape=exact.shape,
            dtype="float32",
            layout="btd",
            device=device,
            versions=VERSIONS,
            seconds=seconds,
        )
    if not all(row["correct"] for row in rows):
        return rows
    print(f"prompt_cache: a hit takes {times[0]['median_us']:.1f} us, encoding {times[1]['median_us']:.0f} us")
    handle.detach()
    return times


def bench_checkpoint(device: str, seconds: float, quick: bool) -> list[dict]:
    """Bytes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        SURAdapter(768, dtype=torch.float16).save_pretrained(Path(folder, "ours"))
        ours = sum(path.stat().st_size for path in Path(folder, "ours").iterdir())
        layer = nn.TransformerEncoderLayer(768, 8)
        theirs = {
            "encoder_layer": layer,
            "transformer_encoder": nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        }
        attention = nn.ModuleDict({name: nn.Linear(768, 768) for name in ("query_layer", "key_layer", "value_layer")})
        attention["output_layer"] = nn.Sequential(nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 768))
        theirs |= {"attention": attention, "fc": nn.Linear(768, 768)}
        torch.save(nn.ModuleDict(theirs).state_dict(), Path(folder, "theirs.pt"))
        original = Path(folder, "theirs.pt").stat().st_size
    values = {"sur_adapter": ours, "original": original}
    rows = counted("checkpoint", values, (768,), "float16", device)
    for row in rows:
        row["nbytes"] = values[row["impl"]]
    print(f"checkpoint: {ours:,} bytes, the authors' {original:,}")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows of each operation; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="What an adapter costs at inference.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="SD1.5 alone and shortly, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=OPERATIONS, default=OPERATIONS, help="operations")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    correct = True
    for op in arguments.only:
        seconds = 0.2 if arguments.quick else 5.0
        rows = globals()[f"bench_{op}"](arguments.device, seconds, arguments.quick)
        append_rows(arguments.out, rows)
        correct &= all(row["correct"] for row in rows)
        for row in rows:
            noisy = " noisy" if row["noisy"] else ""
            time = "" if row["median_us"] is None else f" {row['median_us']:.1f} us,"
            ratios = {name: round(ratio, 3) for name, ratio in (row["peer_ratio"] or {}).items()}
            print(f"{row['op']:20} {row['impl']:17}{time} {ratios}{noisy}", flush=True)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
