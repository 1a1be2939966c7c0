"""The log-probability of continuations: three ways, one number."""

import math
from io import BytesIO

import pytest
import torch
from clot import OptionRequest, Prompt
from clot.integrations.hf import HFBackend
from PIL import Image
from sail_core.bench import peak_bytes

OPTIONS = ("A", "B", "the lobster spins past a teapot.", "the frog hugs a banker.", "a red ring. It is so red!")


def requests(asked):
    return [OptionRequest(f"r{at}", prompt, OPTIONS) for at, prompt in enumerate(asked)]


def numbers(found):
    return torch.tensor([one.logprobs for one in found], dtype=torch.float64)


def by_the_model_itself(backend, request, option):
    """The host's own template, processor and forward pass on the whole text; no code of ours."""
    parts = [{"type": "text", "text": request.prompt.text}]
    if request.prompt.image is not None:
        parts.insert(0, {"type": "image", "image": Image.open(BytesIO(request.prompt.image)).convert("RGB")})
    inputs = backend.processor.apply_chat_template(
        [{"role": "user", "content": parts}],
        tokenize=True,
        return_dict=True,
        add_generation_prompt=True,
        return_tensors="pt",
    )
    tail = backend.processor.tokenizer(option, add_special_tokens=False, return_tensors="pt")["input_ids"]
    length = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tail], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:  # earlier hosts find pictures by their tokens
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tail)], 1)
    backend.model.model.rope_deltas = None
    with torch.no_grad():
        logits = backend.model(**inputs).logits.double()
    logprobs = logits[0, length - 1 : -1].log_softmax(-1)
    return logprobs.gather(1, tail[0][:, None]).sum().item(), tail.shape[1]


def test_scores_are_those_of_the_model_itself(backend, asked):
    asked = requests(asked)
    for one, found in zip(asked, backend.option_logprobs(asked), strict=True):
        assert found.id == one.id
        for option, value, tokens in zip(OPTIONS, found.logprobs, found.tokens, strict=True):
            expected, count = by_the_model_itself(backend, one, option)
            assert value == pytest.approx(expected, abs=1e-4)
            assert tokens == count


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("rows", [3, 32])
def test_naive_batched_and_shared_agree_on_either_side(backend, asked, side, rows):
    """Mixed batches of pictures and text; every method and padding side against the naive loop padded left."""
    truth = numbers(backend.option_logprobs(requests(asked), method="naive"))
    other = HFBackend(backend.model, backend.processor, padding_side=side, rows=rows)
    for method in ("naive", "batched", "shared"):
        found = numbers(other.option_logprobs(requests(asked), method=method))
        assert (found - truth).abs().max() < 1e-4, method


def test_what_generate_leaves_behind_changes_nothing(backend, asked):
    before = backend.option_logprobs(requests(asked[:3]), method="naive")
    backend.model.model.rope_deltas = torch.tensor([[-999]])
    backend.forget()
    assert backend.option_logprobs(requests(asked[:3]), method="naive") == before
    assert backend.model.model.rope_deltas.item() == -999
    backend.model.model.rope_deltas = None


def test_all_single_tokens_together_have_probability_one(backend, asked):
    tokenizer = backend.processor.tokenizer
    names = [tokenizer.decode([at]) for at in range(len(tokenizer)) if at not in tokenizer.all_special_ids]
    words = [name for name in names if "�" not in name and len(tokenizer(name).input_ids) == 1]
    (found,) = backend.option_logprobs([OptionRequest("r", asked[0], tuple(words))])
    total = sum(map(math.exp, found.logprobs))
    assert len(words) > 200
    assert 0.3 < total < 1  # the rest is special tokens and lone bytes
    assert set(found.tokens) == {1}


@pytest.fixture
def count(backend):
    """Tokens that the language model reads."""
    seen = []
    text = backend.model.model.language_model
    handle = text.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    backend.forget()
    yield seen
    handle.remove()
    backend.forget()


def test_letters_cost_one_reading_of_the_prompt(backend, asked, count):
    backend.option_logprobs([OptionRequest("r", asked[0], ("A", "B", "C", "D", "E"))])
    length = count[0]
    assert len(count) == 1
    backend.option_logprobs([OptionRequest("r", asked[0], ("A", "B", "C", "D", "E"))])
    assert len(count) == 1, "the prompt was not remembered"
    backend.forget()
    backend.option_logprobs([OptionRequest("r", asked[0], OPTIONS)])
    tails = [len(backend.processor.tokenizer(option).input_ids) - 1 for option in OPTIONS[2:]]
    assert count[1:] == [length, 3 * max(tails)]


def test_permutations_share_what_stands_before_their_options(backend, asked, count):
    head = asked[0].text + " Which is the funniest of them, and why would anybody laugh? Options:"
    words = ["the ring", "a banker", "the frog", "a teapot", "an opera"]
    turned = [" ".join([head, *words[at:], *words[:at]]) for at in range(5)]
    together = [OptionRequest(f"p{at}", Prompt(text, asked[0].image), ("A", "B")) for at, text in enumerate(turned)]
    found = backend.option_logprobs(together)
    assert len(count) == 2
    shared, rest = count
    assert shared > rest / 5
    whole = backend._encoder.encode("", together[0].prompt, room=0)
    assert shared + rest / 5 == len(whole.ids)
    alone = [backend.option_logprobs([one], method="naive")[0] for one in together]
    assert (numbers(found) - numbers(alone)).abs().max() < 1e-4


def test_a_prompt_that_begins_another_keeps_a_token_of_its_own(backend):
    from clot.integrations.hf._encode import Encoded
    from clot.integrations.hf._prefill import Prefill

    long = tuple(backend.processor.tokenizer("the ring orbits a teapot").input_ids)
    prompts = [Encoded(str(length), long[:length], b"", 0, {}, {}) for length in (3, 5, 4, 3)]
    with torch.inference_mode():
        read = Prefill(backend._reader, side="left", capacity=0)(prompts)
        for prompt, (state, row) in zip(prompts, read, strict=True):
            alone = backend._reader.prompt(prompt)
            assert (state.logits[row] - alone.logits[0]).abs().max() < 1e-4
            assert state.position[row] == alone.position[0] == len(prompt.ids)


def test_the_picture_matters_and_is_told_apart(backend, asked):
    one, two = asked[0], Prompt(asked[0].text, asked[3].image)
    found = numbers(backend.option_logprobs([OptionRequest(str(at), it, OPTIONS) for at, it in enumerate((one, two))]))
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_of_many_options_only_one_part_is_held(tiny_folders, asked):
    backend = HFBackend.from_pretrained(tiny_folders["qwen2_5_vl"], device="cpu", rows=8)
    options = [f"the {number} lobsters spin past a teapot." for number in range(10, 42)]

    def peak(count):
        request = [OptionRequest("r", asked[0], tuple(options[:count]))]
        backend.option_logprobs(request)
        return peak_bytes(lambda: backend.option_logprobs(request))

    assert peak(32) < 1.1 * peak(8)


def test_a_model_built_in_inference_mode(tiny_folders, asked):
    with torch.inference_mode():
        backend = HFBackend.from_pretrained(tiny_folders["qwen2_5_vl"], device="cpu")
        backend.model.model.language_model.layers[0].mlp.down_proj.weight = torch.nn.Parameter(
            backend.model.model.language_model.layers[0].mlp.down_proj.weight.clone(), requires_grad=False
        )
    assert any(one.is_inference() for one in backend.model.parameters())
    usual = HFBackend.from_pretrained(tiny_folders["qwen2_5_vl"], device="cpu")
    request = [OptionRequest("r", asked[0], ("A", "B"))]
    assert backend.option_logprobs(request) == usual.option_logprobs(request)
    assert backend.digest == usual.digest


def test_training_in_place_makes_memories_false(tiny_folders, asked):
    backend = HFBackend.from_pretrained(tiny_folders["qwen2_5_vl"], device="cpu")
    request = [OptionRequest("r", asked[0], ("A", "B"))]
    before, name = backend.option_logprobs(request), backend.digest
    with torch.no_grad():
        backend.model.model.language_model.layers[0].mlp.down_proj.weight.mul_(2)
    after = backend.option_logprobs(request)
    assert after != before
    truth = numbers(backend.option_logprobs(request, method="naive"))
    assert (numbers(after) - truth).abs().max() < 1e-4
    assert backend.digest != name
