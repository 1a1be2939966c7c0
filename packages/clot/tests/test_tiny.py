"""Models from a configuration and the world they live in."""

import hashlib
import io
import os
import subprocess
import sys

import pytest
import torch
from clot._world import ACTS, COLOURS, THINGS, make_world
from clot.integrations.tiny import save_tiny, tiny_model, tiny_processor
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

SPELL = """
import hashlib
from clot.integrations.tiny import _tokenizer
print(hashlib.sha256(_tokenizer(["a red ring.", "赤い輪, ok?", "\\U0001f642 é"]).to_str().encode()).hexdigest())
"""


def test_the_vocabulary_is_the_same_in_every_process():
    runs = {
        subprocess.run(
            [sys.executable, "-c", SPELL],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_processor(texts=["a red ring.", "赤い輪"]).tokenizer


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_letters_words_and_signs_are_single_tokens(tokenizer):
    for text in ["A", " A", "Z", " Z", " red", "ring", "赤", "輪"]:
        assert len(tokenizer(text).input_ids) == 1, text
    assert len(tokenizer("赤い輪").input_ids) == 3
    assert len(tokenizer("青").input_ids) == 3  # its bytes


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_saved_model_is_the_built_one(family, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = tiny_processor(family, texts=["a red ring"])
    model = tiny_model(processor, seed=3)
    save_tiny(tmp_path, family, texts=["a red ring"], seed=3)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert (
        type(model).__name__ == {"qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family] + "ForConditionalGeneration"
    )
    reader = AutoProcessor.from_pretrained(tmp_path)
    parts = [{"type": "image", "image": Image.new("RGB", (90, 90), "red")}, {"type": "text", "text": "a red ring"}]
    inputs = [
        one.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=True, return_dict=True, return_tensors="pt"
        )
        for one in (processor, reader)
    ]
    with torch.no_grad():
        ours, theirs = (net(**given).logits for net, given in zip((model, loaded), inputs, strict=True))
    assert torch.equal(ours, theirs)
    assert (inputs[0]["input_ids"] == processor.image_token_id).sum() == 4
    assert not torch.equal(next(tiny_model(processor, seed=4).parameters()), next(model.parameters()))


def test_building_leaves_the_global_generator_alone():
    processor = tiny_processor()
    state = torch.get_rng_state()
    tiny_model(processor)
    assert torch.equal(state, torch.get_rng_state())


def test_words_that_mean_no_model_are_refused():
    with pytest.raises(ValueError, match=r"family is 'bert'; expected one of qwen2_5_vl, qwen3_vl"):
        tiny_processor("bert")
    with pytest.raises(ValueError, match=r"hidden is 40; expected a multiple of 32"):
        tiny_model(tiny_processor(), hidden=40)


def digest(world):
    parts = [repr(world.records), *world.pictures, *world.captions.values()]
    return hashlib.sha256("".join(parts).encode() + b"".join(world.pictures.values())).hexdigest()


def test_a_world_is_a_function_of_its_seed():
    assert digest(make_world(seed=1)) == digest(make_world(seed=1)) != digest(make_world(seed=2))


def test_a_world_has_what_its_makers_promise():
    world = make_world(seed=5, prompts=200, answers=9)
    prompts = {}
    for one in world.records:
        prompts.setdefault((one.type, one.image or one.question), []).append(one)
    for (game, name), answers in prompts.items():
        assert len({one.extra["split"] for one in answers}) == 1, "a prompt is in both splits"
        if game != "T2T":  # a question may come twice, with answers of its own each time
            assert len({one.star for one in answers}) == len(answers) == 9
            colour, shape = world.captions[name].removesuffix(".").split()[1:]
            assert all(one.text.split()[1] in THINGS[colour] for one in answers)
            assert all(any(f" {act} " in one.text for act in ACTS[shape]) for one in answers)
            image = Image.open(io.BytesIO(world.pictures[name]))
            assert image.size == (56, 56)
            assert (
                max(image.getcolors(), key=lambda pair: pair[0] if pair[1] != (96, 96, 96) else 0)[1] == COLOURS[colour]
            )
    assert {game for game, _ in prompts} == {"I2T", "T2T", "IT2T"}
    share = sum(answers[0].extra["split"] == "test" for answers in prompts.values()) / len(prompts)
    assert 0.2 < share < 0.3


def test_the_literal_lessons_hold_captions_and_no_joke():
    world = make_world(prompts=30)
    lessons = world.literal()
    pictures = {one.image: one for one in lessons if one.image}
    assert {name: one.target for name, one in pictures.items()} == dict(world.captions)
    assert all(one.prompt.image == world.pictures[name] for name, one in pictures.items())
    jokes = {one.text for one in world.records if one.image}
    assert not any(one.target in jokes for one in lessons if one.image)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"prompts": 0}, "prompts is 0"),
        ({"answers": 10}, "answers is 10"),
        ({"test": 1.5}, "test is 1.5"),
        ({"games": ("I2I",)}, "games is"),
        ({"side": 4}, "side is 4"),
    ],
)
def test_worlds_that_cannot_be_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        make_world(**options)
