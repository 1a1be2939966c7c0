"""The toy world: prompts say what they must, splits are apart, the judge can tell, trainings repeat."""

import json
import re

import pytest
import torch
from sur_adapter._step import Weights
from sur_adapter._toy._adapt import AdaptConfig, adapt
from sur_adapter._toy._check import check
from sur_adapter._toy._digits import canvas, ink_colour, load_digits, tint
from sur_adapter._toy._experiment import run_seed
from sur_adapter._toy._judge import train_judge
from sur_adapter._toy._prompts import COLOURS, draw_prompts, sums, vocabulary, words
from sur_adapter._toy._protocol import Protocol
from sur_adapter._toy._summary import table_of, tabulate, verdicts
from sur_adapter._toy._text import LENGTH, Tokenizer
from sur_adapter._toy._world import late, sample, train_base, untrained

SUITES = ("mention", "reasoning", "colour", "counting")
NUMBER = {word: value for value, word in enumerate(words()["digits"])}


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def judge(digits):
    return train_judge(*digits)


@pytest.fixture(scope="module")
def world(digits):
    return train_base("digits", digits[0], steps=4, seed=0, batch=8)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("split", ["train", "tuning", "test"])
def test_every_prompt_fits_the_encoder(suite, split):
    tokenizer = Tokenizer(vocabulary())
    for prompt in draw_prompts(suite, split, 400, seed=1):
        ids = tokenizer([prompt.narrative, prompt.complex])
        assert ids.shape == (2, LENGTH)
        assert (ids == 2).sum(1).tolist() == [1, 1]  # the end was reached


def test_splits_share_no_frame():
    for frames in (words()["frames"], words()["counts"]["frames"]):
        together = [frame for split in frames.values() for frame in split]
        assert len(together) == len(set(together))


def test_mention_never_says_the_digit_as_keywords_do():
    for prompt in draw_prompts("mention", "test", 300, seed=0):
        assert not set(prompt.narrative.split()) & NUMBER.keys()
        assert words()["digits"][prompt.target] in prompt.complex.split(",")[0]


def test_colour_never_says_the_colour_as_keywords_do():
    for prompt in draw_prompts("colour", "test", 300, seed=0):
        assert not set(prompt.narrative.split()) & set(COLOURS)
        assert COLOURS[prompt.target] in prompt.complex


def test_sums_are_right_and_held_out():
    for digit in range(10):
        train, held_out = sums(digit)
        assert train
        assert held_out
        assert not set(train) & set(held_out)
        for phrase in (*train, *held_out):
            numbers = [NUMBER[word] for word in phrase.split() if word in NUMBER]
            if "sum" in phrase:
                value = sum(numbers)
            elif "minus" in phrase:
                value = numbers[0] - numbers[1]
            else:
                value = numbers[-1] + (1 if "more" in phrase else -1)
            assert value == digit, phrase


def test_new_phrases_stand_in_no_training_prompt():
    trained = {phrase for digit in range(10) for phrase in sums(digit)[0]}
    fresh = [prompt for prompt in draw_prompts("reasoning", "test", 400, seed=0) if prompt.fresh]
    assert len(fresh) > 100
    for prompt in fresh:
        assert not any(re.search(rf"\b{phrase}\b", prompt.narrative) for phrase in trained)
    assert not any(prompt.fresh for prompt in draw_prompts("reasoning", "train", 400, seed=0))


def test_counts_are_told_right():
    lists = words()["counts"]
    for prompt in draw_prompts("counting", "test", 200, seed=0):
        assert any(name in prompt.narrative for name in lists["names"][prompt.target])
        assert f"count {words()['digits'][prompt.target + 1]}" in prompt.complex


def test_draws_repeat_and_seeds_differ():
    assert draw_prompts("mention", "test", 5, seed=1) == draw_prompts("mention", "test", 5, seed=1)
    assert draw_prompts("mention", "test", 5, seed=1) != draw_prompts("mention", "test", 5, seed=2)
    with pytest.raises(ValueError, match="no suite"):
        draw_prompts("action", "test", 1, seed=0)


def test_judge_on_real_pictures(judge, digits):
    assert judge.digit_accuracy > 0.95
    assert judge.count_accuracy > 0.95
    generator = torch.Generator().manual_seed(0)
    labels, colours = torch.arange(120) % 10, torch.arange(120) % 6
    tinted = tint(digits[1].pick(labels, generator), colours)
    assert (ink_colour(tinted) == colours).all()
    assert (judge.digits(tinted) == labels).float().mean() > 0.9


def test_pick_gives_what_is_wanted(digits):
    wanted = torch.tensor([3, 3, 9, 0])
    drawn = digits[0].pick(wanted, torch.Generator().manual_seed(0))
    for picture, label in zip(drawn, wanted, strict=True):
        same = (digits[0].pixels == picture).flatten(1).all(1)
        assert label in digits[0].labels[same]


def test_canvas_has_as_many_quarters_inked(digits):
    counts = torch.tensor([1, 2, 3, 4] * 5)
    made = canvas(digits[0], counts, torch.Generator().manual_seed(0))
    quarters = made.reshape(20, 2, 8, 2, 8).amax((2, 4)) > 0
    assert (quarters.sum((1, 2)) == counts).all()


def test_late_moves_times_to_noise():
    u = torch.linspace(0, 1, 5)
    assert late(u)[0] == 0
    assert late(u)[-1] == 1
    assert (late(u)[1:-1] > u[1:-1]).all()


def test_padding_and_later_words_do_not_reach_back(world):
    """The encoder is causal, as CLIP's."""
    a, b = world.encode(["digit seven, red ink", "digit seven, blue ink"])
    torch.testing.assert_close(a[:4], b[:4])
    assert not torch.allclose(a[4:], b[4:])


def test_training_repeats_bit_for_bit(digits, world):
    again = train_base("digits", digits[0], steps=4, seed=0, batch=8)
    other = train_base("digits", digits[0], steps=4, seed=1, batch=8)
    same, differ = again.denoiser.state_dict(), other.denoiser.state_dict()
    for name, value in world.denoiser.state_dict().items():
        assert torch.equal(value, same[name])
    assert not torch.equal(world.denoiser.out.weight, differ["out.weight"])


def test_samples_of_a_seed_do_not_depend_on_the_system(world):
    states = world.encode(["digit one, red ink", "digit two, blue ink"])
    assert torch.equal(sample(world, states, seed=3), sample(world, states, seed=3))
    assert not torch.equal(sample(world, states, seed=3), sample(world, states, seed=4))


@pytest.mark.parametrize("kind", ["digits", "counting"])
def test_denoiser_keeps_the_shape(kind):
    world = untrained(kind)
    noisy = torch.randn(2, *world.shape)
    assert world.denoiser(noisy, torch.rand(2), world.encode(["", ""])).shape == noisy.shape


def test_the_base_is_frozen_and_the_adapter_learns(digits, world):
    before = {name: value.clone() for name, value in world.denoiser.state_dict().items()}
    prompts = draw_prompts("mention", "train", 20, seed=0)
    trained = adapt(world, digits[0], prompts, AdaptConfig(steps=3, batch=4), seed=0, teacher=torch.randn(20, 6))
    for name, value in world.denoiser.state_dict().items():
        assert torch.equal(value, before[name])
    assert trained.curves.keys() == {"loss", "diffusion", "prompt", "teacher", "preservation"}
    assert all(len(values) == 3 for values in trained.curves.values())
    assert trained.adapter.fc.weight.abs().sum() > 0
    alone = adapt(world, digits[0], prompts, AdaptConfig(steps=3, batch=4), seed=0)
    assert "teacher" not in alone.curves


def test_preservation_holds_the_keywords(digits, world):
    prompts = draw_prompts("mention", "train", 20, seed=0)
    drifts = []
    for weight in (0.0, 100.0):
        config = AdaptConfig(steps=25, batch=8, weights=Weights(teacher=0, prompt=0, preservation=weight))
        adapter = adapt(world, digits[0], prompts, config, seed=0).adapter
        states = world.encode([one.complex for one in prompts])
        drifts.append(float((adapter(states) - states).norm()))
    assert drifts[1] < 0.5 * drifts[0]


def test_hits_are_those_of_the_judge(world, judge):
    prompts = {suite: draw_prompts(suite, "tuning", 9, seed=0) for suite in ("mention", "reasoning", "colour")}
    found = check(world, judge, prompts, None, seed=0, keep=2)
    assert found.hits.keys() >= {"complex", "complex, colour", "mention", "reasoning", "colour"}
    assert all(len(found.hits[suite]) == 9 for suite in ("complex", "mention", "reasoning", "colour"))
    assert len(found.hits["reasoning, new phrases"]) == sum(one.fresh for one in prompts["reasoning"])
    made = sample(world, world.encode([one.narrative for one in prompts["colour"]]), seed=0)
    expected = [bool(a == one.target) for a, one in zip(judge.colours(made), prompts["colour"], strict=True)]
    assert found.hits["colour"] == expected
    assert torch.equal(found.pictures["colour"], made[:2])
    assert found.accuracy("colour") == sum(expected) / 9


PROTOCOL = {
    "worlds": {"digits": [0, 1]},
    "split": "tuning",
    "base_steps": {"digits": 2},
    "prompts": {"mention": 5, "reasoning": 5, "colour": 5},
    "checked": 8,
    "teacher": None,
    "training": {"steps": 2, "batch": 4, "weights": {"diffusion": 1.0, "teacher": 0.0}},
    "systems": {"adapter": {}, "mixing none": {"mixing": "none", "steps": 1}},
}


def write(path, **changes):
    path.write_text(json.dumps(PROTOCOL | changes))
    return path


def test_a_seed_goes_on_where_it_stopped(tmp_path):
    protocol = Protocol.read(write(tmp_path / "protocol.json"))
    part = run_seed(protocol, "digits", 0, tmp_path / "part", deadline=0.0, progress=False)
    assert part == {}
    whole = run_seed(protocol, "digits", 0, tmp_path / "whole", progress=False)
    assert list(whole) == ["base", "adapter", "mixing none"]
    (tmp_path / "whole" / "mixing-none" / "result.json").unlink()
    times = (tmp_path / "whole" / "adapter" / "result.json").stat().st_mtime_ns
    again = run_seed(protocol, "digits", 0, tmp_path / "whole", progress=False)
    assert (tmp_path / "whole" / "adapter" / "result.json").stat().st_mtime_ns == times
    for name in whole:
        assert again[name].check.hits == whole[name].check.hits
        assert again[name].curves == whole[name].curves
    found = {("digits", 0): whole, ("digits", 1): whole}
    rows = tabulate(found)
    assert rows["mention"].values["adapter"] == [whole["adapter"].check.accuracy("mention")] * 2
    assert "mixing none" in table_of(rows).splitlines()[0]
    claims = [one.claim for one in verdicts(found)]
    assert "the adapter adds 20 points on mention prompts" in claims
    assert any("mixing none" in claim for claim in claims)
    assert not any("counting" in claim for claim in claims)
    assert all(one.interval is not None for one in verdicts({("digits", 0): whole}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "train"}, "split"),
        ({"worlds": {"letters": [0]}}, "worlds"),
        ({"systems": {"adapter": {"width": 3}}}, "width"),
        ({"systems": {"adapter": {"weights": {"colour": 1}}}}, "colour"),
        ({"training": {"steps": 2}}, "weights"),
        ({"more": 1}, "more"),
    ],
)
def test_bad_protocols(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        Protocol.read(write(tmp_path / "protocol.json", **changes))


def test_the_protocols_of_the_package_are_read():
    from importlib.resources import files

    for path in (files("sur_adapter") / "protocols").iterdir():
        protocol = Protocol.read(path)
        assert "adapter" in protocol.systems
