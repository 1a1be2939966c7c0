"""Saved models: the same scores, no code, and a clear word where files do not belong together."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from cem_mhch import CEM, Batch, CEMConfig, CostModel, HandoffModel, HostOutput
from torch import nn


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    none = torch.full((2, 4), -1)
    return Batch(
        tokens=torch.randint(1, 20, (2, 4, 3), generator=generator),
        mask=torch.ones(2, 4, dtype=torch.bool),
        role=torch.tensor([[0, 1, 0, 1]] * 2),
        handoff=none,
        sentiment=none,
        satisfaction=torch.full((2,), -1),
    )


@pytest.fixture
def saved(tmp_path):
    model = CEM(HandoffModel.build("hgru", vocab_size=20, size=4, embedding_size=4))
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@torch.inference_mode()
@pytest.mark.parametrize("name", ["hgru", "dami_lite", "rssn"])
def test_the_same_scores_after_loading(name, batch, tmp_path):
    config = CEMConfig(beta=0.7, state_size=5, cost_weight=0.2)
    model = CEM(
        HandoffModel.build(name, vocab_size=20, size=4, embedding_size=4), config, CostModel(handoff=2.0)
    ).eval()
    model.freeze_simulator()
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = CEM.from_pretrained(tmp_path)
    assert (again.config, again.cost, again.stage, again.training) == (config, CostModel(handoff=2.0), 2, False)
    assert not any(parameter.requires_grad for parameter in again.simulator.parameters())
    assert torch.equal(again(batch).probs, model(batch).probs)
    assert torch.equal(again(batch).cost, model(batch).cost)


class Own(nn.Module):
    hidden_size = 3

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(1, 3)

    def forward(self, batch):
        hidden = self.read(batch.tokens.float().mean(2, keepdim=True))
        return HostOutput(hidden[..., :2], hidden)


@torch.inference_mode()
def test_a_host_of_ones_own_is_given_again(batch, tmp_path):
    model = CEM(Own()).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="host of your own"):
        CEM.from_pretrained(tmp_path)
    assert torch.equal(CEM.from_pretrained(tmp_path, host=Own())(batch).probs, model(batch).probs)
    with pytest.raises(ValueError, match="cannot be built"):
        CEM.from_pretrained(tmp_path, host=HandoffModel.build("hgru", vocab_size=9))


def test_weights_of_another_save_are_noticed(saved, tmp_path):
    CEM(HandoffModel.build("hgru", vocab_size=20, size=4, embedding_size=4)).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", saved)
    with pytest.raises(ValueError, match=r"not the file that config\.json describes"):
        CEM.from_pretrained(saved)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not the description"),
        (b"[]", "not the description"),
        (b"{}", "not the description"),
        (b"\xff\xfe", "not the description"),
        (b'{"format": 7}', "format is 7"),
    ],
)
def test_a_damaged_description(saved, content, words):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        CEM.from_pretrained(saved)


def test_a_missing_file(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        CEM.from_pretrained(saved)


def test_a_description_with_an_unknown_host_or_option(saved):
    described = json.loads((saved / "config.json").read_text())
    for change in ({"host": {"name": "os.system", "options": {}}}, {"config": {"run": "rm"}}):
        (saved / "config.json").write_text(json.dumps(described | change))
        with pytest.raises(ValueError):
            CEM.from_pretrained(saved)


def test_a_failed_save_leaves_the_earlier_one(saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        CEM.from_pretrained(saved).save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
