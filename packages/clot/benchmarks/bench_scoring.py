"""Scoring and candidates from one reading of the prompt: bench_scoring.py --out FILE [--device cpu] [--quick].

The model is a Qwen2.5-VL of 6.0 million parameters, built here; prompts have a picture and 354 tokens, options 26.
Nothing is remembered between calls. Every call gives its result divided by what it must be, so a row is timed only
when its call is right.

``options``: log-probability of options; ours reads the prompt once. Peers: the host's own forward pass on the prompt
with each option, one after the other (``naive``) or side by side (``batched``). The shape is options, tokens of each,
and tokens of the prompt.

``candidates``: 5 answers of 16 tokens to a prompt; ours in one call. Peers: five calls of the host's ``generate``, its
``num_return_sequences=5``, and five calls of ours. ``clot_remembered`` has the prompt in memory from before.

``letters``: letters of 5 options in all 5 cyclic orders; ours in one call. Peers: the host's ``generate`` of 16 tokens
in one order with a parser behind it, and ours. The shape is options, tokens of each, and tokens before them.

``options_memory``: most bytes held beyond what was held before; a count, not a time.
"""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from clot import OptionRequest, Prompt, Request, __version__, parse_answer
from clot._world import make_world
from clot.integrations.hf import HFBackend
from clot.integrations.tiny import tiny_model, tiny_processor
from PIL import Image
from sail_core.bench import append_rows, compare, make_row, peak_bytes
from torch import Tensor

PROMPT, OPTION, TOKENS = 354, 26, 16
Calls = dict[str, tuple[Callable[[], Tensor], Tensor]]
HOSTS = ("naive", "batched", "five_calls", "num_return_sequences", "generate_and_parse")
VERSIONS = dict.fromkeys(HOSTS, transformers.__version__)
VERSIONS |= dict.fromkeys(("clot", "clot_remembered", "clot_five_calls", "clot_generate_and_parse"), __version__)


class Setting:
    """A model, a picture and texts of given lengths."""

    def __init__(self, device: str, *, context: int = 2048) -> None:
        world = make_world(prompts=3)
        self.processor = tiny_processor(texts=world.texts())
        self.model = tiny_model(self.processor, hidden=256, layers=5, context=context).to(device)
        self.picture = next(iter(world.pictures.values()))
        self.image = Image.open(io.BytesIO(self.picture)).convert("RGB")
        self.words = [word for text in world.texts() for word in text.split() if word.isalpha()]
        self.device = device
        self.backend = HFBackend(self.model, self.processor, prefixes=0)
        self.remembering = HFBackend(self.model, self.processor, prefixes=4)

    def text(self, tokens: int, start: int = 0) -> str:
        """Words that make so many tokens, each beginning with a space."""
        several = [self.words[(start + 7 * at) % len(self.words)] for at in range(tokens)]
        text = "".join(f" {word}" for word in several)
        assert len(self.processor.tokenizer(text).input_ids) == tokens
        return text

    def prompt(self, tokens: int, tail: str = "") -> Prompt:
        """A prompt with the picture and so many tokens before the tail."""
        frame = len(self.inputs(Prompt("", self.picture))["input_ids"][0])
        return Prompt(self.text(tokens - frame) + tail, self.picture)

    def inputs(self, prompt: Prompt) -> dict[str, Tensor]:
        """What the host's processor makes of a prompt."""
        parts = [{"type": "image", "image": self.image}, {"type": "text", "text": prompt.text}]
        made = self.processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
        )
        return {name: value.to(self.device) for name, value in made.items()}

    def host_options(self, prompt: Prompt, options: Sequence[str], rows: int) -> Tensor:
        """Log-probabilities as a user of the host writes them; all options have the same length."""
        sums = []
        for start in range(0, len(options), rows):
            part = options[start : start + rows]
            tails = self.processor.tokenizer(list(part), return_tensors="pt")["input_ids"].to(self.device)
            inputs = self.inputs(prompt)
            inputs = {name: value.repeat(len(part), *[1] * (value.ndim - 1)) for name, value in inputs.items()}
            inputs["input_ids"] = torch.cat([inputs["input_ids"], tails], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tails)], 1)
            logits = self.model(**inputs, logits_to_keep=tails.shape[1] + 1, use_cache=False).logits[:, :-1]
            sums.append(logits.float().log_softmax(-1).gather(2, tails[..., None])[..., 0].sum(1))
        return torch.cat(sums)

    def our_options(self, prompt: Prompt, options: Sequence[str]) -> Tensor:
        """Ours."""
        (found,) = self.backend.option_logprobs([OptionRequest("r", prompt, tuple(options))])
        return torch.tensor(found.logprobs)

    def host_answers(self, prompt: Prompt, calls: int, several: int) -> list[str]:
        """Greedy answers of the host, so that all ways must agree."""
        texts: list[str] = []
        always = {"do_sample": True, "top_k": 1}  # drawing from one token: several greedy answers are not allowed
        for _ in range(calls):
            inputs = self.inputs(prompt)
            ids = self.model.generate(**inputs, max_new_tokens=TOKENS, num_return_sequences=several, **always)
            texts += self.processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def our_answers(self, backend: HFBackend, prompt: Prompt, calls: int, several: int) -> list[str]:
        """Ours."""
        request = Request("r", prompt, n=several, max_new_tokens=TOKENS, temperature=0.0)
        return [text for _ in range(calls) for text in backend.generate([request])[0].texts]


def points(texts: Sequence[str]) -> Tensor:
    """Texts as numbers."""
    return torch.tensor([float(ord(sign)) for text in texts for sign in [*text, "\n"]])


def over(call: Callable[[], Tensor], truth: Tensor) -> Callable[..., Tensor]:
    """A call whose result is 1 where it is right."""
    return lambda *_: 1 + (call().cpu() - truth) / truth.abs().max()


def rows_of(
    op: str, calls: dict[str, tuple[Callable[[], Tensor], Tensor]], shape: Sequence[int], **options: Any
) -> Any:
    """Compare calls, each with what it must give."""
    return compare(
        op,
        {name: over(call, truth) for name, (call, truth) in calls.items()},
        lambda seed: [],
        reference=lambda *_: 1 + 0 * next(iter(calls.values()))[1],
        tolerance=1e-4,
        shape=shape,
        dtype="float32",
        layout="padded",
        versions=VERSIONS,
        **options,
    )


def options_rows(setting: Setting, several: int, **timing: Any) -> Any:
    """Rows of ``options``."""
    prompt = setting.prompt(PROMPT)
    options = [setting.text(OPTION, start=at + 1) for at in range(several)]
    truth = setting.host_options(prompt, options, 1).cpu()
    calls = {
        "clot": (lambda: setting.our_options(prompt, options), truth),
        "naive": (lambda: setting.host_options(prompt, options, 1), truth),
        "batched": (lambda: setting.host_options(prompt, options, several), truth),
    }
    return rows_of("options", calls, [several, OPTION, PROMPT], mode="score", **timing)


def candidates_rows(setting: Setting, **timing: Any) -> Any:
    """Rows of ``candidates``."""
    prompt = setting.prompt(PROMPT)
    truth = points(setting.host_answers(prompt, 5, 1))

    def ours(backend: HFBackend, calls: int, several: int) -> Callable[[], Tensor]:
        return lambda: points(setting.our_answers(backend, prompt, calls, several))

    calls = {
        "clot": (ours(setting.backend, 1, 5), truth),
        "clot_remembered": (ours(setting.remembering, 1, 5), truth),
        "five_calls": (lambda: points(setting.host_answers(prompt, 5, 1)), truth),
        "num_return_sequences": (lambda: points(setting.host_answers(prompt, 1, 5)), truth),
        "clot_five_calls": (ours(setting.backend, 5, 1), truth),
    }
    return rows_of("candidates", calls, [5, TOKENS, PROMPT], mode="generate", **timing)


def letters_rows(setting: Setting, before: int, **timing: Any) -> Any:
    """Rows of ``letters``: what is asked stands before the options, in every order the same."""
    options = [setting.text(OPTION - 3, start=at + 1) for at in range(5)]
    letters = tuple("ABCDE")
    prompts = []
    for turn in range(5):
        turned = [*options[turn:], *options[:turn]]
        tail = "".join(f"\n{letter}.{option}" for letter, option in zip(letters, turned, strict=True))
        prompts.append(setting.prompt(before, tail))
    requests = [OptionRequest(str(turn), prompt, letters) for turn, prompt in enumerate(prompts)]

    def ours() -> Tensor:
        return torch.tensor([found.logprobs for found in setting.backend.option_logprobs(requests)]).flatten()

    def parsed(texts: list[str]) -> Tensor:
        parse_answer(texts[0], 5)
        return points(texts)

    truth = torch.cat([setting.host_options(prompt, letters, 1) for prompt in prompts]).cpu()
    written = points(setting.host_answers(prompts[0], 1, 1))
    calls = {
        "clot": (ours, truth),
        "generate_and_parse": (lambda: parsed(setting.host_answers(prompts[0], 1, 1)), written),
        "clot_generate_and_parse": (lambda: parsed(setting.our_answers(setting.backend, prompts[0], 1, 1)), written),
    }
    found = {}
    for name, call in calls.items():  # results of two forms: each is held against its own truth
        found[name] = over(*call)()
    assert all((value - 1).abs().max() < 1e-4 for value in found.values())
    short = {name: (lambda call=call: call()[:1], value[:1]) for name, (call, value) in calls.items()}
    return rows_of("letters", short, [5, OPTION, before], mode="score", **timing)


def memory_rows(setting: Setting, several: int) -> Any:
    """Rows of ``options_memory``."""
    prompt = setting.prompt(PROMPT)
    options = [setting.text(OPTION, start=at + 1) for at in range(several)]
    calls = {
        "clot": lambda: setting.our_options(prompt, options),
        "naive": lambda: setting.host_options(prompt, options, 1),
        "batched": lambda: setting.host_options(prompt, options, several),
    }
    for call in calls.values():
        call()  # warm
    held = {name: peak_bytes(call, setting.device) for name, call in calls.items()}
    return [
        make_row(
            "options_memory",
            name,
            device=setting.device,
            impl_version=VERSIONS[name],
            mode="score",
            shape=[several, OPTION, PROMPT],
            dtype="float32",
            layout="padded",
            correct=True,  # of these calls `options` says so
            noisy=False,
            peak_bytes=ours,
            peer_ratio={peer: other / ours for peer, other in held.items() if peer != name},
        )
        for name, ours in held.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Append the rows; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Scoring of options and drawing of candidates from one prompt.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="a moment for each, to see that it runs")
    arguments = parser.parse_args(argv)
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    timing = {"device": arguments.device, "seconds": 0.01 if arguments.quick else 5.0}
    setting = Setting(arguments.device)
    count = sum(one.numel() for one in setting.model.parameters())
    print(f"{count:,} parameters")
    correct = True
    with torch.inference_mode():
        jobs: list[Callable[[], Any]] = [
            *(lambda several=several: options_rows(setting, several, **timing) for several in (5, 2, 10, 20)),
            lambda: candidates_rows(setting, **timing),
            *(
                lambda before=before: letters_rows(setting, before, **timing)
                for before in (PROMPT - 5 * OPTION, PROMPT)
            ),
            *(lambda several=several: memory_rows(setting, several) for several in (2, 5, 10, 20)),
        ]
        for job in jobs:
            rows = job()
            append_rows(arguments.out, rows)
            correct &= all(row["correct"] for row in rows)
            for row in rows:
                if row["impl"].startswith("clot"):
                    ratios = {peer: round(ratio, 2) for peer, ratio in (row["peer_ratio"] or {}).items()}
                    noisy = " noisy" * bool(row["noisy"])
                    time = f"{row['median_us'] / 1000:.1f} ms" if row["median_us"] else f"{row['peak_bytes']:,} bytes"
                    print(f"{row['op']} {row['shape']} {row['impl']}: {time} {ratios}{noisy}", flush=True)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
