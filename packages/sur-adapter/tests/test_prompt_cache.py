"""The prompt cache returns what encoding returns, and notices everything that changes it."""

import pytest
import tiny_pipelines as tiny
import torch
from diffusers.utils.peft_utils import scale_lora_layers
from random_adapters import trained
from sur_adapter import PromptCache
from sur_adapter.integrations.diffusers import attach


@pytest.fixture
def attached():
    pipe = tiny.build("sd15")
    adapter = trained(32)
    handle = attach(pipe, adapter)
    return pipe, adapter, handle, PromptCache(handle)


def fresh(handle, cache, **options):
    """Encode through the cache, and check against an encoding of now."""
    found, expected = cache.encode("a red dog", **options), handle.encode("a red dog", **options)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].equal(value), name


def test_a_hit_runs_neither_encoder_nor_adapter(attached):
    pipe, adapter, _, cache = attached
    first = cache.encode(["a red dog", "a cat"], "ugly")
    for module in (pipe.text_encoder, adapter):
        module.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    again = cache.encode(["a red dog", "a cat"], "ugly")
    assert (cache.hits, cache.misses, len(cache)) == (1, 1, 1)
    assert all(again[name] is value for name, value in first.items())
    again.clear()
    assert cache.encode(["a red dog", "a cat"], "ugly").keys() == first.keys()


def test_another_prompt_negative_or_option_is_another_entry(attached):
    *_, handle, cache = attached
    for options in ({}, {"negative_prompt": "ugly"}, {"negative": "skip"}, {"clip_skip": 1}, {"guidance": False}):
        fresh(handle, cache, **options)
        fresh(handle, cache, **options)
    cache.encode("a cat")
    cache.encode(("a cat",))
    assert (cache.hits, cache.misses) == (5, 7)


def test_the_least_recently_used_goes_first(attached):
    *_, handle, _ = attached
    cache = PromptCache(handle, max_entries=2)
    for prompt in ("a dog", "a cat", "a dog", "a bird"):
        cache.encode(prompt)
    assert (cache.hits, len(cache)) == (1, 2)
    cache.encode("a dog")
    assert cache.hits == 2
    cache.encode("a cat")
    assert cache.misses == 4
    cache.clear()
    assert len(cache) == 0
    with pytest.raises(ValueError, match="max_entries is 0"):
        PromptCache(handle, max_entries=0)


def in_place(pipe, adapter, handle):
    with torch.no_grad():
        pipe.text_encoder.get_input_embeddings().weight.mul_(1.5)


def optimizer_step(pipe, adapter, handle):
    adapter(torch.ones(1, 2, 32)).sum().backward()
    torch.optim.SGD(adapter.parameters(), lr=1.0).step()


def loaded_state(pipe, adapter, handle):
    adapter.load_state_dict(trained(32, seed=5).state_dict())


def another_scale(pipe, adapter, handle):
    handle.set_scale(0.9)


def own_scale(pipe, adapter, handle):
    adapter.scale = 0.9


def another_adapter(pipe, adapter, handle):
    attach(pipe, trained(32, seed=7))


def a_lora(pipe, adapter, handle):
    tiny.add_lora(pipe.text_encoder)


@pytest.mark.parametrize(
    "change",
    [in_place, optimizer_step, loaded_state, another_scale, own_scale, another_adapter, a_lora],
)
def test_every_change_is_noticed(attached, change):
    pipe, adapter, handle, cache = attached
    before = cache.encode("a red dog")["prompt_embeds"]
    change(pipe, adapter, handle)
    fresh(handle, cache)
    assert cache.misses == 2
    assert not cache.encode("a red dog")["prompt_embeds"].equal(before)


def test_another_encoder_is_noticed_and_needs_another_attachment(attached):
    pipe, _, _, cache = attached
    cache.encode("a red dog")
    pipe.text_encoder = tiny.clip(32, layers=2)
    with pytest.raises(ValueError, match="text_encoder was replaced since the adapter was attached"):
        cache.encode("a red dog")


def test_a_lora_that_is_scaled_switched_off_and_removed(attached):
    pipe, adapter, handle, cache = attached
    plain = cache.encode("a red dog")["prompt_embeds"]
    a_lora(pipe, adapter, handle)
    fresh(handle, cache)
    scale_lora_layers(pipe.text_encoder, 0.25)
    fresh(handle, cache)
    tiny.switch_lora(pipe.text_encoder, False)
    fresh(handle, cache)
    assert cache.encode("a red dog")["prompt_embeds"].equal(plain)
    tiny.switch_lora(pipe.text_encoder, True)
    fresh(handle, cache)
    assert cache.misses == 4
    tiny.remove_lora(pipe.text_encoder)
    fresh(handle, cache)
    assert cache.misses == 4, "without the LoRA the first result is right again"
