"""Drawing answers: the host's greedy answers, exact distributions, seeds, and prompts that are read once."""

import io
import math
from dataclasses import replace

import pytest
import torch
from clot import Prompt, Request
from clot.integrations.hf import HFBackend
from clot.integrations.hf._decode import choose
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image


def requests(asked, **options):
    return [Request(f"r{at}", prompt, seed=at, **{"max_new_tokens": 10, **options}) for at, prompt in enumerate(asked)]


def test_greedy_answers_are_those_of_the_host(backend, asked):
    found = backend.generate(requests(asked, temperature=0.0, max_new_tokens=14))
    for prompt, one in zip(asked, found, strict=True):
        parts = [{"type": "text", "text": prompt.text}]
        if prompt.image is not None:
            parts.insert(0, {"type": "image", "image": Image.open(io.BytesIO(prompt.image)).convert("RGB")})
        inputs = backend.processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
        )
        ids = backend.model.generate(**inputs, max_new_tokens=14, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert one.texts == (backend.processor.tokenizer.decode(ids, skip_special_tokens=True).strip(),)


def test_answers_depend_on_seed_and_number_not_on_company(backend, asked):
    together = backend.generate(requests(asked, n=3))
    assert together == backend.generate(requests(asked, n=3))
    alone = [backend.generate([one])[0] for one in requests(asked, n=3)]
    assert [one.texts for one in alone] == [one.texts for one in together]
    backwards = backend.generate(requests(asked, n=3)[::-1])
    assert backwards == together[::-1]
    assert [one.texts[:2] for one in backend.generate(requests(asked, n=2))] == [one.texts[:2] for one in together]
    assert all(len(set(one.texts)) == 3 for one in together)
    other = [replace(one, seed=one.seed + 1000) for one in requests(asked, n=3)]
    assert all(one.texts != two.texts for one, two in zip(backend.generate(other), together, strict=True))


def test_padding_and_rows_change_nothing(backend, asked):
    truth = backend.generate(requests(asked, n=3))
    for options in ({"padding_side": "right"}, {"rows": 2}, {"prefixes": 0}):
        assert HFBackend(backend.model, backend.processor, **options).generate(requests(asked, n=3)) == truth, options


def test_a_prompt_is_read_once_for_all_candidates_and_remembered(backend, asked):
    read = []
    text = backend.model.model.language_model
    seeing = []
    handles = [
        text.register_forward_pre_hook(
            lambda module, args, kwargs: read.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
        ),
        backend.model.model.visual.register_forward_pre_hook(lambda module, args: seeing.append(1)),
    ]
    backend.forget()
    length = len(backend._encoder.encode("", asked[0], room=0).ids)
    first = backend.generate([Request("r", asked[0], n=5, max_new_tokens=4)])
    assert read[0] == (1, length)
    assert all(shape in {(5, 1), (4, 1), (3, 1), (2, 1), (1, 1)} for shape in read[1:])
    assert len(read) <= 4
    assert len(seeing) == 1
    del read[1:]
    again = backend.generate([Request("r", asked[0], n=5, max_new_tokens=4)])
    assert (1, length) not in read[1:]
    assert len(seeing) == 1
    assert first == again
    for handle in handles:
        handle.remove()
    backend.forget()


def test_candidates_end_one_by_one(tiny_folders, asked):
    """A model that ends an answer half of the time: rows leave the batch, texts have no trace of the end."""
    backend = HFBackend.from_pretrained(tiny_folders["qwen2_5_vl"], device="cpu")
    (end,) = backend._stop
    head = backend.model.lm_head
    bias = torch.zeros(head.out_features)
    bias[end] = math.log(head.out_features)
    head.register_forward_hook(lambda module, args, out: out + bias)
    found = backend.generate(requests(asked, n=8))
    assert found == backend.generate(requests(asked, n=8))
    lengths = [len(backend.processor.tokenizer(text).input_ids) for one in found for text in one.texts]
    assert min(lengths) == 0
    assert len(set(lengths)) > 4
    alone = [backend.generate([one])[0] for one in requests(asked, n=8)]
    assert alone == found
    assert not any("<|" in text for one in found for text in one.texts)


LOGITS = st.lists(st.floats(-4, 4), min_size=2, max_size=12)


@given(LOGITS, st.floats(0.2, 3), st.floats(0.05, 1))
def test_tokens_have_the_probabilities_of_the_nucleus(values, temperature, top_p):
    """An even grid of uniform numbers finds each token's probability exactly, but for one grid step each end."""
    n = 4000
    logits = torch.tensor(values, dtype=torch.float64)
    mass = [math.exp(value / temperature) for value in logits.tolist()]
    mass = [value / sum(mass) for value in mass]
    kept, total = {}, 0.0
    for at in sorted(range(len(mass)), key=lambda at: -mass[at]):
        if total >= top_p:
            break
        kept[at] = mass[at]
        total += mass[at]
    ones = torch.ones(n, dtype=torch.float64)
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = choose(logits.expand(n, -1), ones * temperature, ones * top_p, uniform)
    shares = torch.bincount(drawn, minlength=len(values)).double() / n
    borderline = any(abs(sum(list(kept.values())[:at]) - top_p) < 1e-9 for at in range(1, len(kept) + 1))
    if not borderline and len(set(values)) == len(values):
        expected = torch.tensor([kept.get(at, 0.0) / total for at in range(len(values))], dtype=torch.float64)
        assert (shares - expected).abs().max() < 2 / n


def test_greedy_and_drawn_rows_mix():
    logits = torch.tensor([[0.0, 1.0, 0.5]]).expand(4, -1)
    temperature = torch.tensor([0.0, 1.0, 0.0, 5.0], dtype=torch.float64)
    uniform = torch.tensor([0.0, 0.0, 0.999, 0.999], dtype=torch.float64)
    assert choose(logits, temperature, torch.ones(4).double(), uniform).tolist() == [1, 0, 1, 2]
    impossible = torch.tensor([[-math.inf, 0.0, -math.inf]])
    for number in (0.0, 0.5, 1 - 1e-16):
        one = torch.tensor([number], dtype=torch.float64)
        assert choose(impossible, torch.ones(1).double(), torch.ones(1).double(), one).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"n": 0}, "n 0"),
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"top_p": 0.0}, "top_p 0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(backend, options, problem):
    with pytest.raises(ValueError, match=f"request r1 has .*{problem}"):
        backend.generate([Request("r1", Prompt("Why?"), **options)])


def test_nothing_asked_is_nothing_answered(backend):
    assert backend.generate([]) == backend.option_logprobs([]) == []
