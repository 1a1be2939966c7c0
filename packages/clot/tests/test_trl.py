"""Exports and rewards, and TRL's own trainers on them."""

import io
import math

import pytest
from clot import ContentScorer, EchoBackend, LetterScorer, Scored
from clot.integrations.training import LoRA
from clot.integrations.trl import humor_reward, to_dpo, to_prompts, to_sft
from oogiri_go import Record
from PIL import Image

pytest.importorskip("trl")


def rated(world, every=1):
    """Records whose ratings are their likes; of the first prompt no two are told apart."""
    first = world.records[0]
    found = []
    for one in world.records[::every]:
        wide = (one.image, one.question) == (first.image, first.question)
        extra = {"rating_mean": one.star / 10, "rating_se": 5.0 if wide else 0.01}
        found.append(Record(one.id, one.type, one.question, one.image, one.text, one.star, one.lang, extra=extra))
    return found


# the data


def test_instructions_become_conversations_with_their_pictures(lessons):
    data = to_sft(lessons)
    assert len(data) == len(lessons)
    for row, one in zip(data, lessons, strict=True):
        assert row["prompt"] == [{"role": "user", "content": one.prompt.text}]
        assert row["completion"] == [{"role": "assistant", "content": one.target}]
        assert [picture.size for picture in row["images"]] == [(56, 56)] * (one.prompt.image is not None)
    with_text_first = to_sft([one for one in lessons if one.image is None][:1] + lessons[:1])
    assert [len(row["images"]) for row in with_text_first] == [0, 1]


def test_pairs_come_from_separated_ratings_only(tiny_world):
    records = rated(tiny_world)
    data = to_dpo(records, pictures=tiny_world.pictures)
    ratings = {(one.question, one.text): one.extra for one in records}
    first = [one.text for one in records if one.extra["rating_se"] == 5.0]
    assert len(data) > 50
    for row in data:
        chosen, rejected = (row[name][0]["content"] for name in ("chosen", "rejected"))
        assert chosen not in first
        assert rejected not in first
        means = [[one["rating_mean"] for (_, text), one in ratings.items() if text == it] for it in (chosen, rejected)]
        assert max(means[0]) - min(means[1]) >= 2 * math.hypot(0.01, 0.01)
    assert len(to_dpo(records, pictures=tiny_world.pictures, per_prompt=1)) < len(data)


def test_likes_alone_make_no_pair(tiny_world):
    with pytest.raises(ValueError, match=r"no two answers .* two standard errors apart; records need rating_mean"):
        to_dpo(tiny_world.records, pictures=tiny_world.pictures)


def test_a_missing_picture_is_named(tiny_world, lessons):
    with pytest.raises(ValueError, match=r"record \w+: its picture 'w0-00000' is not there; give pictures"):
        to_prompts(tiny_world.records)
    with pytest.raises(ValueError, match=r"its picture .* is not there"):
        to_dpo(rated(tiny_world), pictures={})


def test_each_prompt_is_asked_once(tiny_world):
    data = to_prompts(tiny_world.records, pictures=tiny_world.pictures)
    heads = {(one.type, one.image, one.question) for one in tiny_world.records}
    assert len(data) == len(heads)
    assert set(data.column_names) == {"images", "prompt", "question", "lang", "game"}


# the reward


def columns(count, question="Why?", **more):
    return {"question": [question] * count, "lang": ["en"] * count, "game": ["T2T"] * count, **more}


@pytest.fixture
def by_length():
    """Longer is funnier."""
    return humor_reward(ContentScorer(EchoBackend(logprob=lambda prompt, option: float(len(option))), normalise="sum"))


def test_the_reward_is_the_share_of_other_answers_beaten(by_length):
    answers = ["aaaa", "b", "cc", "ddd", "e"]
    assert by_length(answers, **columns(5)) == [1.0, 0.125, 0.5, 0.75, 0.125]  # b and e share the last place
    assert by_length(["aa", " AA", "b"], **columns(3)) == [1.0, 1.0, 0.0]  # equal but for case and space
    assert by_length(["", "  ", "b", "cc"], **columns(4)) == [0.0, 0.0, 0.0, 1.0]
    assert by_length(["one", "one"], **columns(2)) == [0.0, 0.0]
    assert by_length([], **columns(0)) == []


def test_prompts_are_judged_apart_and_every_form_of_completion_is_read(by_length):
    talks = [[{"role": "assistant", "content": "bb"}], [{"role": "assistant", "content": [{"text": "ccc"}]}], "d", "ee"]
    questions = columns(4, question=None) | {"question": ["Why?", "Why?", "Who?", "Who?"]}
    assert by_length(talks, **questions) == [0.0, 1.0, 0.0, 1.0]
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    red, blue = Image.open(file), Image.new("RGB", (8, 8), "blue")
    assert by_length(["a", "bb", "c", "dd"], **columns(4, images=[[red], [red], [blue], [blue]])) == [0, 1, 0, 1]
    assert by_length(["a", "bb", "c", "dd"], **columns(4, images=[[red], [blue], [red], [red]])) == [0.25, 0, 0.25, 1]


def test_more_answers_than_letters_are_judged_in_parts(by_length):
    rewards = by_length(["x" * size for size in range(1, 61)], **columns(60))
    assert rewards[:26] == [at / 25 for at in range(26)]
    assert rewards[52:] == [at / 7 for at in range(8)]


def test_what_a_scorer_cannot_read_rewards_nobody():
    class Mute:
        def select(self, questions):
            return self.rank(questions)

        def rank(self, questions):
            return [Scored(one.id, None, None, parsed=False) for one in questions]

    assert humor_reward(Mute())(["a", "b", "b"], **columns(3)) == [0.5, 0.5, 0.5]


def test_columns_of_another_data_set_are_refused(by_length):
    with pytest.raises(ValueError, match=r"needs the column 'question' .* 2 completions; train on .* to_prompts"):
        by_length(["a", "b"])


# the trainers

CALM = "ignore::FutureWarning"  # what TRL and peft still call of transformers, and TRL's own notes of what changes
HOST = ("ignore::DeprecationWarning", "ignore::UserWarning", CALM)


@pytest.fixture
def parts(tiny_folders):
    from clot.integrations.hf._load import load_model
    from peft import LoraConfig

    processor, model = load_model(tiny_folders["qwen2_5_vl"], dtype="auto", device="cpu")
    return processor, model, LoraConfig(r=4, target_modules=LoRA().layers(model), task_type="CAUSAL_LM")


def common(folder, steps=2):
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "report_to": "none",
        "use_cpu": True,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "disable_tqdm": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
    }


def moved(trainer):
    """Whether the adapter learnt anything, and nothing of the vision tower did."""
    names = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
    assert not any("visual" in name for name in names)
    assert all("lora_" in name for name in names)
    return max(value.abs().max() for name, value in trainer.model.named_parameters() if "lora_B" in name) > 0


@pytest.mark.filterwarnings(*HOST)
def test_sft_trains_on_mixed_instructions(parts, lessons, tmp_path):
    from trl import SFTConfig, SFTTrainer

    processor, model, peft = parts
    config = SFTConfig(**common(tmp_path), per_device_train_batch_size=6, max_length=None)
    trainer = SFTTrainer(
        model, args=config, train_dataset=to_sft(lessons), processing_class=processor, peft_config=peft
    )
    trainer.train()
    assert all(math.isfinite(row["loss"]) for row in trainer.state.log_history if "loss" in row)
    assert moved(trainer)


@pytest.mark.filterwarnings(*HOST)
def test_dpo_trains_on_rated_answers(parts, tiny_world, tmp_path):
    from trl import DPOConfig, DPOTrainer

    processor, model, peft = parts
    data = to_dpo(rated(tiny_world), pictures=tiny_world.pictures, per_prompt=1)
    config = DPOConfig(**common(tmp_path), per_device_train_batch_size=4, max_length=None)
    trainer = DPOTrainer(model, args=config, train_dataset=data, processing_class=processor, peft_config=peft)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3)  # policy and reference begin alike
    assert moved(trainer)


@pytest.mark.filterwarnings(*HOST)
@pytest.mark.parametrize("method", ["GRPO", pytest.param("RLOO", marks=pytest.mark.slow)])
@pytest.mark.parametrize("games", [("I2T",), pytest.param(("T2T", "I2T"), marks=pytest.mark.slow)])
def test_groups_of_answers_are_judged_by_a_scorer(parts, tiny_backends, tiny_world, tmp_path, method, games):
    import trl

    processor, model, peft = parts
    records = [one for one in tiny_world.records if one.type in games]
    data = to_prompts(records, pictures=tiny_world.pictures)
    reward = humor_reward(LetterScorer(tiny_backends["qwen3_vl"]))
    given = []

    def judged(completions, **kwargs):
        given.append(reward(completions, **kwargs))
        return given[-1]

    config = getattr(trl, f"{method}Config")(
        **common(tmp_path), per_device_train_batch_size=4, num_generations=4, max_completion_length=6
    )
    trainer = getattr(trl, f"{method}Trainer")(
        model, judged, args=config, train_dataset=data, processing_class=processor, peft_config=peft
    )
    trainer.train()
    assert all(0 <= value <= 1 for batch in given for value in batch)
    assert any(len(set(batch)) > 1 for batch in given)
    assert moved(trainer)
