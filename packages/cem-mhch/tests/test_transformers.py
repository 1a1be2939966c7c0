"""Any transformers encoder as a host: built here with random weights, saved and loaded without a hub."""

import dataclasses

import pytest
import torch
from cem_mhch import CEM, Batch, HandoffModel

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**SIZES, max_position_embeddings=64))
    path = tmp_path_factory.mktemp("bert")
    model.save_pretrained(path)
    return path


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
    tokens = torch.randint(1, 51, (2, 4, 6), generator=generator) * mask[..., None]
    tokens[0, 0, 3:] = 0
    tokens[1, 1] = tokens[0, 2]  # the same words twice
    label = torch.where(mask, torch.tensor([[0, 1, 0, 1]] * 2), -1)
    return Batch(
        tokens=tokens,
        mask=mask,
        role=torch.tensor([[0, 1, 0, 1]] * 2),
        handoff=label,
        sentiment=label,
        satisfaction=torch.tensor([0, 1]),
    )


@torch.inference_mode()
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_utterances_are_what_the_encoder_says_of_them_alone(folder, batch, pooling):
    host = HandoffModel.build(f"hf:{folder}", pooling=pooling).eval()
    bert = transformers.AutoModel.from_pretrained(folder).eval()
    for words in (batch.tokens[0, 0, :3], batch.tokens[0, 1]):
        states = bert(input_ids=(words - 1)[None]).last_hidden_state[0]
        expected = states.mean(0) if pooling == "mean" else states[0]
        padded = torch.nn.functional.pad(words, (0, 4))[None]
        torch.testing.assert_close(host.encoder(padded)[0], expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("adapter", [None, "lora"])
def test_later_turns_and_padding_change_nothing(folder, batch, adapter):
    host = HandoffModel.build(f"hf:{folder}", adapter=adapter).eval()
    expected = host(batch)

    later = dataclasses.replace(batch, tokens=batch.tokens.clone())
    later.tokens[0, 2:] = later.tokens[0, 2:].roll(1, -1) % 50 + 1
    got = host(later)
    torch.testing.assert_close(got.hidden[0, :2], expected.hidden[0, :2], atol=1e-6, rtol=0)
    assert not torch.allclose(got.hidden[0, 2:], expected.hidden[0, 2:], atol=1e-3)

    wide = torch.nn.functional.pad(batch.tokens, (0, 3, 0, 2))
    longer = {
        name: torch.nn.functional.pad(getattr(batch, name), (0, 2), value=fill)
        for name, fill in (("mask", False), ("role", 0), ("handoff", -1), ("sentiment", -1))
    }
    got = host(dataclasses.replace(batch, tokens=wide, **longer))
    torch.testing.assert_close(got.hidden[:, :4][batch.mask], expected.hidden[batch.mask], atol=1e-5, rtol=0)


def count_calls(host):
    rows = []
    host.encoder.model.register_forward_pre_hook(
        lambda *arguments: rows.append(len(arguments[2]["input_ids"])), with_kwargs=True
    )
    return rows


def test_a_frozen_encoder_reads_an_utterance_once(folder, batch):
    host = HandoffModel.build(f"hf:{folder}")
    rows = count_calls(host)
    first = host.train()(batch)
    assert rows == [5]  # six real turns, two of them equal
    host.eval()(batch)
    assert rows == [5]
    assert not host.encoder.model.training
    assert first.hidden.shape == (2, 4, host.hidden_size)
    host.load_state_dict(host.state_dict())
    host(batch)
    assert rows == [5, 5]  # other weights, another vector
    small = HandoffModel.build(f"hf:{folder}", cache_size=2).eval()
    small(batch)
    assert len(small.encoder.cache) == 2
    torch.testing.assert_close(small(batch).handoff_logits, small(batch).handoff_logits)


def test_only_what_is_tuned_has_a_gradient(folder, batch):
    for adapter in (None, "lora"):
        host = HandoffModel.build(f"hf:{folder}", adapter=adapter)
        CEM(host)(batch).loss.backward()
        tuned = {name for name, one in host.encoder.named_parameters() if one.grad is not None}
        assert all("lora_" in name for name in tuned)
        assert bool(tuned) == (adapter == "lora")


@torch.inference_mode()
@pytest.mark.parametrize("adapter", [None, "lora"])
def test_streams_pads_and_saves(folder, batch, tmp_path, adapter):
    host = HandoffModel.build(f"hf:{folder}", adapter=adapter)
    for name, parameter in host.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model = CEM(host).eval()
    whole = model(batch)
    state = model.initial_state(1)
    for turn in range(4):
        piece = Batch(
            **{n: getattr(batch, n)[:1, turn : turn + 1] for n in ("tokens", "mask", "role", "handoff", "sentiment")},
            satisfaction=batch.satisfaction[:1],
        )
        found, state = model.step(piece, state)
        torch.testing.assert_close(found.logits[0, 0], whole.logits[0, turn], atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path)
    again = CEM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(batch).probs, whole.probs, atol=1e-6, rtol=0)


def test_what_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="no transformers encoder"):
        HandoffModel.build(f"hf:{tmp_path / 'nothing'}")
    with pytest.raises(ValueError, match="adapter is 'prefix'"):
        HandoffModel.build(f"hf:{folder}", adapter="prefix")
    with pytest.raises(ValueError, match="pooling is 'max'"):
        HandoffModel.build(f"hf:{folder}", pooling="max")


def test_ids_beyond_the_tokenizer(folder, batch):
    batch.tokens[0, 0, 0] = 51
    with pytest.raises(ValueError, match="id 51, the encoder's tokenizer gives 1 to 50"):
        HandoffModel.build(f"hf:{folder}")(batch)


def test_pickled_weights_are_not_read(folder, tmp_path):
    model = transformers.AutoModel.from_pretrained(folder)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        HandoffModel.build(f"hf:{tmp_path}")
