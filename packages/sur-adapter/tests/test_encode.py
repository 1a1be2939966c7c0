"""clip_skip, long prompts, truncation and attention masks, each against states computed by hand."""

import contextlib

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from random_adapters import trained
from sur_adapter._long_prompts import chunked, chunks_needed, find_truncations, token_ids
from sur_adapter.integrations.diffusers import attach
from tiny_pipelines import call, clip_tokenizer, t5_tokenizer, trained_for

LONG = "a red dog jumps over the fence and " * 30 + "a blue house"
PROMPT = "a red dog"


@contextlib.contextmanager
def old_layout(encoder):
    """The attribute that CLIPTextModel had before transformers 5.6, and that diffusers 0.42 needs for clip_skip."""
    if hasattr(encoder, "text_model"):
        yield
        return
    encoder.__dict__["text_model"] = encoder
    try:
        yield
    finally:
        del encoder.__dict__["text_model"]


def ids_of(tokenizer, prompt):
    return tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


@torch.no_grad()
def skipped_states(pipe, skip):
    """SD1.x: an earlier state under the last norm."""
    encoder = pipe.text_encoder
    states = encoder(ids_of(pipe.tokenizer, PROMPT), output_hidden_states=True).hidden_states[-(skip + 1)]
    return getattr(encoder, "text_model", encoder).final_layer_norm(states)


@pytest.mark.parametrize("skip", [0, 1, 3])
def test_clip_skip_on_sd1_by_encode_and_by_the_pipeline_where_it_can(skip):
    pipe, adapter = tiny.shared("sd15"), trained(32)
    expected = adapter(skipped_states(pipe, skip))
    with old_layout(pipe.text_encoder):
        plain = call("sd15", pipe, prompt=PROMPT, clip_skip=skip)
        with attach(pipe, adapter):
            attached = call("sd15", pipe, prompt=PROMPT, clip_skip=skip)
            again = call("sd15", pipe, prompt=PROMPT, clip_skip=skip)
    with attach(pipe, adapter) as handle:  # in the layout of the installed version
        encoded = handle.encode(PROMPT, clip_skip=skip)
    assert encoded["prompt_embeds"].equal(expected)
    explicit = call("sd15", pipe, **encoded)
    assert np.abs(attached - explicit).max() == 0.0
    assert (again == attached).all()
    assert np.abs(attached - plain).max() > 1e-4


def test_after_a_call_that_skipped_an_ordinary_one_is_ordinary():
    pipe, adapter = tiny.shared("sd15"), trained(32)
    with attach(pipe, adapter) as handle, torch.no_grad():
        ordinary = handle.encode(PROMPT)
        pipe.text_encoder(ids_of(pipe.tokenizer, PROMPT), output_hidden_states=True)  # and no norm after it
        for name, value in handle.encode(PROMPT).items():
            assert value.equal(ordinary[name])


@pytest.mark.parametrize("skip", [1, 2])
@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_clip_skip_adapts_the_state_that_is_read(family, skip):
    pipe, adapters = tiny.shared(family), trained_for(family)
    options = {"max_sequence_length": 24} if family == "sd3" else {}
    with torch.no_grad():
        states = []
        for name in ("text_encoder", "text_encoder_2"):
            tokenizer = getattr(pipe, name.replace("text_encoder", "tokenizer"))
            output = getattr(pipe, name)(ids_of(tokenizer, PROMPT), output_hidden_states=True)
            states.append(adapters[name](output.hidden_states[-(skip + 2)]))
        expected = torch.cat(states, -1)
    with attach(pipe, adapters) as handle:
        encoded = handle.encode(PROMPT, "ugly", clip_skip=skip, **options)
        attached = call(family, pipe, prompt=PROMPT, negative_prompt="ugly", clip_skip=skip)
    assert encoded["prompt_embeds"][:, :77, :80].equal(expected)
    assert np.abs(call(family, pipe, **encoded) - attached).max() == 0.0


def test_an_attention_mask_where_the_encoders_config_asks_for_one():
    pipe, adapter = tiny.build("sd15"), trained(32)
    pipe.text_encoder.config.use_attention_mask = True
    raw = pipe.encode_prompt(PROMPT, "cpu", 1, True, negative_prompt="a dog and a cat")
    with attach(pipe, adapter) as handle:
        encoded = handle.encode(PROMPT, "a dog and a cat")
    assert encoded["prompt_embeds"].equal(adapter(raw[0]))
    assert encoded["negative_prompt_embeds"].equal(adapter(raw[1]))
    pipe.text_encoder.config.use_attention_mask = False
    assert not pipe.encode_prompt(PROMPT, "cpu", 1, False)[0].equal(raw[0])


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_long_prompts_are_chunks_of_75_each_adapted_by_itself(family):
    pipe, adapters = tiny.shared(family), trained_for(family)
    tokens = pipe.tokenizer(LONG, add_special_tokens=False).input_ids
    assert len(tokens) > 150
    rows = {}
    for name, adapter in adapters.items():
        tokenizer, encoder = getattr(pipe, name.replace("text_encoder", "tokenizer")), getattr(pipe, name)
        pieces = []
        for start in range(0, len(tokens), 75):
            piece = [0, *tokens[start : start + 75], 1]
            piece = torch.tensor([piece + [tokenizer.pad_token_id] * (77 - len(piece))])
            with torch.no_grad():
                output = encoder(piece, output_hidden_states=True)
                states = output.hidden_states[-2] if family == "sdxl" else output.last_hidden_state
                pieces.append(adapter(states))
                if start == 0 and output[0].ndim == 2:
                    pooled = output[0]
        rows[name] = torch.cat(pieces, 1)
    expected = torch.cat(list(rows.values()), -1)
    with attach(pipe, adapters) as handle:
        encoded = handle.encode(LONG, "ugly", long="chunk")
        assert handle.encode(PROMPT, "ugly", long="chunk")["prompt_embeds"].shape[1] == 77
    torch.testing.assert_close(encoded["prompt_embeds"], expected, atol=1e-6, rtol=0)
    assert encoded["negative_prompt_embeds"].shape == encoded["prompt_embeds"].shape
    if family == "sdxl":
        torch.testing.assert_close(encoded["pooled_prompt_embeds"], pooled, atol=1e-6, rtol=0)
    assert np.isfinite(call(family, pipe, **encoded)).all()


def test_a_short_prompt_beside_a_long_one_is_padded_with_empty_chunks():
    pipe, adapter = tiny.shared("sd15"), trained(32)
    with attach(pipe, adapter) as handle:
        both = handle.encode([PROMPT, LONG], long="chunk")["prompt_embeds"]
        short = handle.encode(PROMPT)
        long = handle.encode(LONG, long="chunk")["prompt_embeds"]
    torch.testing.assert_close(both[0, :77], short["prompt_embeds"][0], atol=1e-6, rtol=0)
    torch.testing.assert_close(both[0, 77:154], short["negative_prompt_embeds"][0], atol=1e-6, rtol=0)
    torch.testing.assert_close(both[1], long[0], atol=1e-6, rtol=0)


def test_truncation_is_reported_and_what_was_lost_is_named():
    pipe = tiny.shared("sd15")
    with attach(pipe, trained(32)) as handle:
        with pytest.warns(
            UserWarning, match=r"text_encoder reads 77 of \d+ tokens of 'a red dog .*lost: '.*a blue house'"
        ):
            handle.encode(LONG)
        with pytest.warns(UserWarning, match="text_encoder reads 77"):
            handle.encode(PROMPT, LONG)
        assert handle.truncated(PROMPT) == []
        (cut,) = handle.truncated([PROMPT, LONG, LONG])
    assert (cut.slot, cut.prompt, cut.limit) == ("text_encoder", LONG, 77)
    assert cut.tokens == len(pipe.tokenizer(LONG).input_ids)


def test_truncation_of_t5_is_at_its_own_length():
    with attach(tiny.shared("flux"), trained_for("flux")) as handle:
        assert handle.truncated(LONG) == []
        (cut,) = handle.truncated(LONG, max_sequence_length=24)
        assert (cut.slot, cut.limit) == ("text_encoder_2", 24)
        with pytest.warns(UserWarning, match="text_encoder_2 reads 24"):
            handle.encode(LONG, max_sequence_length=24)


@pytest.mark.parametrize("words", [1, 74, 75, 76, 150, 151])
def test_chunks_lose_and_repeat_nothing(words):
    tokenizer = clip_tokenizer("!")
    ids = token_ids(tokenizer, ["dog " * words, "cat"])
    assert [len(one) for one in ids] == [words, 1]
    needed = chunks_needed(ids, tokenizer)
    assert needed == -(-words // 75)
    cut = chunked(ids, tokenizer, chunks=needed)
    assert cut.shape == (2, needed, 77)
    assert (cut[..., 0] == 0).all()
    dog, cat = token_ids(tokenizer, ["dog", "cat"])
    flat = cut[0].flatten().tolist()
    assert flat.count(dog[0]) == words
    assert cut[1].flatten().tolist().count(cat[0]) == 1
    assert flat.count(1) == needed, "one end token a chunk"
    assert len(find_truncations(tokenizer, ["dog " * words], limit=77, slot="x")) == (words > 75)


def test_one_chunk_is_what_the_tokenizer_gives():
    for tokenizer in (clip_tokenizer(), clip_tokenizer("!")):
        for prompt in ("", PROMPT, LONG):
            cut = chunked(token_ids(tokenizer, [prompt]), tokenizer, chunks=1)
            assert cut[0].equal(ids_of(tokenizer, prompt))


def test_t5_has_room_for_one_token_less_than_its_limit():
    tokenizer = t5_tokenizer()
    assert find_truncations(tokenizer, ["dog " * 7], limit=8, slot="x") == []
    (cut,) = find_truncations(tokenizer, ["dog " * 7 + "cat"], limit=8, slot="x")
    assert (cut.tokens, cut.lost) == (9, "cat")


def test_a_textual_inversion_of_several_vectors():
    pipe = tiny.build("sd15")
    pipe.tokenizer.add_tokens(["<style>", "<style>_1"])
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer))
    adapter = trained(32)
    with torch.no_grad():
        raw = pipe.encode_prompt("a dog in <style>", "cpu", 1, False)[0]
    with attach(pipe, adapter) as handle:
        found = handle.encode("a dog in <style>", guidance=False)
    assert list(found) == ["prompt_embeds"]
    assert found["prompt_embeds"].equal(adapter(raw))
    assert not raw.equal(pipe.encode_prompt("a dog in style", "cpu", 1, False)[0])
