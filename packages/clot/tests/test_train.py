"""Stage 1: what is trained, what the loss is, what is saved, and what is refused."""

import json
import math
from dataclasses import replace

import pytest
import torch
from clot import OptionRequest, Prompt
from clot.integrations.hf import HFBackend, RecordError
from clot.integrations.hf._load import load_model, quiet
from clot.integrations.hf._reader import Reader
from clot.integrations.training import AITOptions, LoRA, train_ait
from clot.integrations.training._collate import Collator
from clot.integrations.training._lora import attach
from clot.integrations.training._loss import token_losses
from safetensors.torch import load_file

SMALL = LoRA(r=4, alpha=8, dropout=0.1)


def settings(**options):
    return AITOptions(**{"steps": 2, "batch": 8, "micro_batch": 4, "lr": 1e-2, **options})


@pytest.fixture
def folder(tiny_folders):
    return tiny_folders["qwen2_5_vl"]


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def base(request, tiny_folders):
    return load_model(tiny_folders[request.param], dtype="auto", device="cpu")


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# what is trained


def test_adapters_go_to_the_language_attention_and_touch_no_vision_weight(base):
    _, model = base
    names = LoRA().layers(model)
    assert {name.rsplit(".", 1)[1] for name in names} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert len(names) == 8
    net = attach(model, SMALL, seed=0, full_precision=True)
    trained = [name for name, value in net.named_parameters() if value.requires_grad]
    assert len(trained) == 16
    assert all("language_model" in name and "self_attn" in name and "lora_" in name for name in trained)
    assert not any("visual" in name for name in trained)


@pytest.mark.parametrize("pattern", [r".*visual.*qkv", r".*\.(qkv|q_proj)", r".*"])
def test_a_target_in_the_vision_tower_is_refused(base, pattern):
    with pytest.raises(ValueError, match=r"matches model.visual.* of the vision tower, which is kept as it is"):
        LoRA(target=pattern).layers(base[1])


def test_a_target_that_matches_nothing_is_refused(base):
    with pytest.raises(ValueError, match=r"no linear layer matches the target 'c_attn'; .* are .*lm_head"):
        LoRA(target="c_attn").layers(base[1])
    assert len(LoRA(target=r".*language_model.*mlp\..*").layers(base[1])) == 6


def test_only_the_adapter_changes(folder, lessons, tmp_path):
    before = load_model(folder, dtype="auto", device="cpu")[1].state_dict()
    done = train_ait(folder, lessons, out=tmp_path, options=settings(), lora=SMALL, device="cpu")
    backend = HFBackend.from_pretrained(folder, adapter=done.folder, device="cpu")
    after = {name.replace(".base_layer", ""): value for name, value in backend.model.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    changed = {name: value for name, value in after.items() if "lora_B" in name}
    assert len(changed) == 8
    assert all(value.abs().max() > 0 for value in changed.values())


# what the loss is


def by_hand(base, instruction):
    """Loss of each answer token, by the host's template of the whole conversation, one example, no padding."""
    from io import BytesIO

    from PIL import Image

    processor, model = base
    parts = [{"type": "text", "text": instruction.prompt.text}]
    if instruction.prompt.image is not None:
        parts.insert(0, {"type": "image", "image": Image.open(BytesIO(instruction.prompt.image)).convert("RGB")})
    answer = [{"type": "text", "text": instruction.target}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    whole = processor.apply_chat_template(talk, **options)
    start = processor.apply_chat_template(talk[:1], add_generation_prompt=True, **options)["input_ids"].shape[1]
    model.model.rope_deltas = None
    with torch.no_grad():
        logits = model(**whole).logits
    ids = whole["input_ids"][0]
    losses = -logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    assert processor.tokenizer.decode(ids[start:]) == instruction.target + "<|im_end|>\n"
    return losses[start - 1 : -1]  # the newline after the end token is not learnt


def test_the_loss_is_on_the_answer_and_its_end_without_newline(base, lessons):
    processor, model = base
    collator = Collator(processor, context=None)
    prompts, labels = collator.batch([collator.example(one) for one in lessons[:6]])
    losses = token_losses(model, Reader(model).inputs(prompts, side="right"), labels)
    for row, one in enumerate(lessons[:6]):
        expected = by_hand(base, one)
        learnt = labels[row][labels[row] != -100]
        assert processor.tokenizer.decode(learnt) == one.target + "<|im_end|>"
        assert losses[row].sum().item() == pytest.approx(expected.sum().item(), rel=1e-4)
        assert (losses[row] != 0).sum() == len(expected) == len(learnt)


@pytest.mark.parametrize("weighting", ["token", "example"])
def test_the_first_step_has_the_loss_and_the_gradient_of_its_definition(folder, lessons, tmp_path, weighting):
    """Passes of three and of eight make the same step; loss by kind and gradient against one plain backward."""
    data = lessons[:8]
    outs = {}
    for micro in (3, 8):
        options = settings(steps=1, micro_batch=micro, weighting=weighting, clip=1e9)
        train_ait(
            folder, data, out=tmp_path / str(micro), options=options, lora=replace(SMALL, dropout=0), device="cpu"
        )
        outs[micro] = rows(tmp_path / str(micro))[0]
    assert outs[3] == pytest.approx(outs[8], rel=1e-4)
    processor, model = load_model(folder, dtype="auto", device="cpu")
    losses = {one.id: by_hand((processor, model), one) for one in data}
    for kind in ("generate", "select"):
        parts = torch.cat([losses[one.id] for one in data if one.kind == kind])
        assert outs[8][f"loss_{kind}"] == pytest.approx(parts.mean().item(), rel=1e-4)
    assert outs[8]["loss"] == pytest.approx(torch.cat([*losses.values()]).mean().item(), rel=1e-4)
    net = attach(model, replace(SMALL, dropout=0), seed=0, full_precision=True)
    collator = Collator(processor, context=None)
    total = torch.zeros(())
    tokens = sum(map(len, losses.values()))
    for one in data:
        example = collator.example(one)
        prompts, labels = collator.batch([example])
        found = token_losses(net, Reader(model).inputs(prompts, side="right"), labels).sum()
        total = total + found / (tokens if weighting == "token" else 8 * len(losses[one.id]))
    total.backward()
    norm = torch.stack([one.grad.norm() for one in net.parameters() if one.grad is not None]).norm()
    assert outs[8]["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_training_lowers_the_loss_of_every_kind(folder, lessons, tmp_path):
    options = settings(steps=30, batch=16, micro_batch=16, lr=3e-3, weighting="example", warmup=0.1)
    done = train_ait(folder, lessons, out=tmp_path, options=options, lora=None, device="cpu")
    log = rows(tmp_path)
    for kind in ("loss_generate", "loss_select"):  # the last batch of an epoch may lack a kind
        found = [row[kind] for row in log if kind in row]
        assert found[-1] < 0.5 * found[0]
    assert done.losses["all"] == log[-1]["loss"]
    backend = HFBackend.from_pretrained(done.folder, device="cpu")  # all weights: a whole model with its processor
    letters = [OptionRequest(one.id, one.prompt, ("A", "B", "C")) for one in lessons if one.kind == "select"]
    assert all(found.logprobs[0] == max(found.logprobs) for found in backend.option_logprobs(letters))


def test_recomputing_activations_changes_nothing(folder, lessons, tmp_path):
    for recompute in (False, True):
        options = settings(recompute=recompute)
        train_ait(folder, lessons, out=tmp_path / str(recompute), options=options, lora=SMALL, device="cpu")
    first, second = rows(tmp_path / "False"), rows(tmp_path / "True")
    assert first == [pytest.approx(row, rel=1e-5) for row in second]


# what is saved


def test_an_adapter_comes_back_with_the_same_bits_here_and_in_peft(folder, lessons, tmp_path):
    from peft import PeftModel

    done = train_ait(folder, lessons, out=tmp_path, options=settings(), lora=SMALL, device="cpu")
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "base_identity.json",
    ]
    ask = [OptionRequest("r", lessons[1].prompt, ("A", "the ring."))]
    backends = [HFBackend.from_pretrained(folder, adapter=done.folder, device="cpu") for _ in range(2)]
    processor, model = load_model(folder, dtype="auto", device="cpu")
    with quiet():
        peft = HFBackend(PeftModel.from_pretrained(model, done.folder), processor)
    assert backends[0].option_logprobs(ask) == backends[1].option_logprobs(ask) == peft.option_logprobs(ask)
    assert backends[0].digest == backends[1].digest == peft.digest
    bare = HFBackend.from_pretrained(folder, device="cpu")
    assert bare.option_logprobs(ask) != peft.option_logprobs(ask)
    assert bare.digest != peft.digest
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, str(folder))


def test_an_adapter_is_kept_from_another_base(folder, lessons, tmp_path, tiny_folders):
    from clot.integrations.tiny import save_tiny

    done = train_ait(folder, lessons, out=tmp_path / "run", options=settings(), lora=SMALL, device="cpu")
    texts = [one.prompt.text for one in lessons]
    for other, problem in (
        (tiny_folders["qwen3_vl"], "trained on a Qwen2_5_VLForConditionalGeneration, this is a Qwen3VL"),
        (save_tiny(tmp_path / "wide", hidden=96), "of other sizes"),
        (save_tiny(tmp_path / "a", texts=texts), "of other sizes"),
    ):
        with pytest.raises(ValueError, match=problem):
            HFBackend.from_pretrained(other, adapter=done.folder, device="cpu")
        with pytest.raises(ValueError, match=problem):
            train_ait(other, lessons, out=tmp_path / "other", options=settings(), adapter=done.folder, device="cpu")
    half = HFBackend.from_pretrained(folder, adapter=done.folder, dtype="bfloat16", device="cpu")  # the same base
    assert half.option_logprobs([OptionRequest("r", Prompt("Why?"), ("A",))])[0].logprobs[0] < 0


def test_an_adapter_is_trained_on(folder, lessons, tmp_path):
    first = train_ait(folder, lessons, out=tmp_path / "1", options=settings(steps=6), lora=SMALL, device="cpu")
    second = train_ait(
        folder, lessons, out=tmp_path / "2", options=settings(steps=1), adapter=first.folder, device="cpu"
    )
    fresh = train_ait(folder, lessons, out=tmp_path / "3", options=settings(steps=1), lora=SMALL, device="cpu")
    assert second.losses["all"] < fresh.losses["all"]
    weights = [load_file(one.folder / "adapter_model.safetensors") for one in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    assert {value.shape for value in weights[0].values()} == {value.shape for value in weights[1].values()}


# resuming


def test_a_run_goes_on_with_the_same_bits(folder, lessons, tmp_path, monkeypatch):
    from clot.integrations.training import _loop

    options = settings(steps=5, save_every=2, weighting="example")
    whole = train_ait(folder, lessons, out=tmp_path / "whole", options=options, lora=SMALL, device="cpu")

    class Stop(Exception):
        pass

    save = _loop.Loop._save
    for at in (2, 4):  # stopped after each checkpoint, started again each time

        def saved(self, progress, at=at):
            save(self, progress)
            if progress.step == at:
                raise Stop

        monkeypatch.setattr(_loop.Loop, "_save", saved)
        with pytest.raises(Stop):
            train_ait(folder, lessons, out=tmp_path / "parts", options=options, lora=SMALL, device="cpu")
        torch.rand(3)
    monkeypatch.setattr(_loop.Loop, "_save", save)
    parts = train_ait(folder, lessons, out=tmp_path / "parts", options=options, lora=SMALL, device="cpu")
    for name in ("adapter/adapter_model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert replace(parts, folder=whole.folder) == whole
    again = train_ait(folder, lessons, out=tmp_path / "parts", options=options, lora=SMALL, device="cpu")
    assert again == parts  # a finished run is not done twice
    assert len(rows(tmp_path / "parts")) == 5


def test_training_leaves_the_global_generator_alone(folder, lessons, tmp_path):
    state = torch.get_rng_state()
    train_ait(folder, lessons, out=tmp_path, options=settings(steps=1), lora=SMALL, device="cpu")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"options": settings(lr=2e-2)}, r"another configuration: options.lr \(0.01 there, 0.02 now\)"),
        ({"lora": LoRA(r=2)}, r"lora.r \(4 there, 2 now\)"),
        ({"instructions": "other"}, r"another configuration: data"),
        ({"resume": False}, r"holds a run already; resume it, delete it"),
    ],
)
def test_a_folder_of_another_run_is_refused(folder, lessons, tmp_path, change, problem):
    train_ait(folder, lessons, out=tmp_path, options=settings(), lora=SMALL, device="cpu")
    data = lessons[:-1] if change.pop("instructions", None) else lessons
    with pytest.raises(ValueError, match=problem):
        train_ait(folder, data, out=tmp_path, device="cpu", **{"options": settings(), "lora": SMALL, **change})


# what is wrong with data or settings


def test_a_loss_that_is_not_finite_stops_before_it_does_harm(folder, lessons, tmp_path, monkeypatch):
    from clot.integrations.training import _loop
    from sail_core.runs import latest, load_state

    losses = _loop.token_losses
    passes = []

    def poisoned(*args):
        passes.append(1)
        found = losses(*args)
        return found * math.nan if len(passes) == 6 else found

    monkeypatch.setattr(_loop, "token_losses", poisoned)
    with pytest.raises(ValueError, match=r"step 3: the loss is nan .*instructions \w+, .*lower the learning rate"):
        train_ait(folder, lessons, out=tmp_path, options=settings(steps=5, save_every=1), lora=SMALL, device="cpu")
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]
    state = load_state(latest(tmp_path / "checkpoints"))
    assert state["progress"]["step"] == 2
    assert all(value.isfinite().all() for value in state["model"].values())
    assert not (tmp_path / "adapter").exists()
    monkeypatch.setattr(_loop, "token_losses", losses)
    done = train_ait(folder, lessons, out=tmp_path, options=settings(steps=5, save_every=1), lora=SMALL, device="cpu")
    assert done.steps == 5


def test_instructions_longer_than_the_context_are_left_out_and_counted(folder, lessons, tmp_path):
    long = [replace(one, prompt=Prompt("ring " * 2100), image=None) for one in lessons[:3]]
    done = train_ait(folder, long + lessons[3:8], out=tmp_path, options=settings(steps=1), lora=SMALL, device="cpu")
    assert done.dropped == rows(tmp_path)[0]["dropped"] == 3
    nothing = train_ait(folder, long, out=tmp_path / "none", options=settings(steps=1), lora=SMALL, device="cpu")
    assert (nothing.dropped, nothing.losses) == (3, {})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"prompt": Prompt("Why?", b"no picture")}, "its picture of 10 bytes does not load"),
        ({"prompt": Prompt("Why?"), "image": "w9"}, "its picture 'w9' is not there; give a folder"),
        ({"target": " \n"}, "its target is empty; leave it out"),
    ],
)
def test_an_instruction_that_cannot_be_read_is_named(folder, lessons, tmp_path, change, problem):
    bad = replace(lessons[0], id="bad1", **change)
    with pytest.raises(RecordError, match=f"record bad1: {problem}") as error:
        train_ait(folder, [bad], out=tmp_path, options=settings(steps=1), lora=SMALL, device="cpu")
    assert error.value.record_id == "bad1"


def test_pictures_are_read_when_their_turn_comes(folder, lessons, tiny_world, tmp_path):
    bare = [replace(one, prompt=Prompt(one.prompt.text)) for one in lessons]
    for name, data, pictures in (("held", lessons, None), ("read", bare, tiny_world.pictures)):
        train_ait(folder, data, out=tmp_path / name, options=settings(), lora=SMALL, device="cpu", pictures=pictures)
    assert rows(tmp_path / "held") == rows(tmp_path / "read")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"steps": 0}, "steps is 0"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"schedule": "step"}, "schedule is 'step'"),
        ({"weighting": "kind"}, "weighting is 'kind'"),
        ({"parallel": "tp"}, "parallel is 'tp'"),
    ],
)
def test_settings_out_of_range_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        AITOptions(**options)


def test_other_things_that_cannot_be_trained(folder, tmp_path):
    with pytest.raises(ValueError, match="there are no instructions to learn"):
        train_ait(folder, [], out=tmp_path)
    with pytest.raises(ValueError, match="r is 0"):
        LoRA(r=0)
    assert not (tmp_path / "config.json").exists()


def test_the_learning_rate_rises_and_falls():
    options = AITOptions(lr=2.0, warmup=0.2)
    rates = [options.rate(step=step, total=10) for step in range(10)]
    assert rates[:3] == [1.0, 2.0, 2.0]
    for step in range(2, 10):
        assert rates[step] == pytest.approx(1 + math.cos(math.pi * (step - 2) / 8))
    assert AITOptions(lr=2.0, warmup=0, schedule="constant").rate(step=9, total=10) == 2.0
    assert (AITOptions(epochs=3, batch=10).total(21), AITOptions(epochs=3, steps=2).total(21)) == (9, 2)
