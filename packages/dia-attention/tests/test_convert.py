"""Checkpoints with the authors' names load into our networks and give the outputs of networks with those names."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from dia_attention import attach, cifar_resnet, convert_checkpoint
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import authors


def trained(net):
    """Every parameter away from its start, every statistic moved."""
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    for _ in range(2):
        net(torch.randn(4, 3, 16, 16) + 0.5)
    return net.eval()


def check(theirs, ours, kind, **wrapping):
    theirs = trained(theirs)
    state = theirs.state_dict()
    missing = ours.load_state_dict(convert_checkpoint(state, kind))
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    x = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=1e-4, atol=1e-5)
    wrapped = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}
    assert convert_checkpoint(wrapped, kind).keys() == ours.state_dict().keys()


def test_dianet():
    check(authors.DIANet(2), cifar_resnet(20, attention="dia"), "dianet")


def test_ras():
    check(authors.ras(2), cifar_resnet(20, attention="ras"), "ras")


@pytest.mark.parametrize("order", [0, 1, 3])
def test_lsas(order):
    check(authors.lsas(2, order), cifar_resnet(20, attention="lsas", order=order), "lsas")


def test_asr():
    check(authors.asr(2, both=False), cifar_resnet(20, attention="asr"), "asr")


def test_asr_in_both_places():
    ours = cifar_resnet(20, attention="asr")
    attach(ours, "se")
    check(authors.asr(2, both=True), ours, "asr")


def test_asr_that_was_deployed_is_the_plain_network():
    theirs = trained(authors.asr(2, both=False))
    state = {key: value for key, value in theirs.state_dict().items() if ".bn3." not in key}
    with torch.no_grad():
        for path, module in theirs.named_modules():
            if isinstance(module, authors.ASRNorm):
                v = module.attention_module(module.vector).flatten()
                for name, tensor in module.bn.state_dict().items():
                    state[f"{path}.fused_bn.{name}"] = tensor * v if name in ("weight", "bias") else tensor
    ours = cifar_resnet(20)
    ours.load_state_dict(convert_checkpoint(state, "asr"))
    x = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_lsas_of_imagenet_loads_into_torchvision():
    """Their ImageNet form: SELayer in ``se`` of the last two stages, fc.0, fc.2, w and b inside."""
    ours = torchvision.models.resnet18(num_classes=7)
    attach(ours, "lsas")
    state = {}
    for key, value in ours.state_dict().items():
        stage, middle, rest = key.partition(".lsas.")
        if not middle:
            state[key] = value
            continue
        block, _, inner = rest.partition(".")
        inner = inner.replace("base.fc1", "fc.0").replace("base.fc2", "fc.2")
        state[f"{stage}.{block}.se.{inner}"] = value.reshape(1, -1, 1, 1) if inner in ("w", "b") else value
    assert "layer3.0.se.fc.0.weight" in state
    converted = convert_checkpoint(state, "lsas")
    assert converted.keys() == ours.state_dict().keys()
    assert all(torch.equal(converted[key], value) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        ({}, "ras", "expected a state dict of tensors"),
        ({"a": 3}, "ras", "expected a state dict of tensors"),
        ({"state_dict": 3}, "ras", "expected a state dict of tensors"),
        ({"a": torch.zeros(1)}, "vit", "unknown kind 'vit'; give one of"),
        ({"conv1.weight": torch.zeros(1)}, "asr", "not a checkpoint of kind 'asr': no key matches .*first is 'conv1"),
        (
            {"layer1.lstm.w_ih.0.seq.0.weight": torch.zeros(1), "layer1.lstm.w_ih.1.weight": torch.zeros(1)},
            "dianet",
            r"w_ih\.1\.weight: the cell has more than one layer",
        ),
    ],
)
def test_what_is_not_such_a_checkpoint_is_refused(state, kind, message):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(state, kind)


def test_a_checkpoint_of_another_kind_is_refused():
    states = {
        "dianet": authors.DIANet(1).state_dict(),
        "ras": authors.ras(1).state_dict(),
        "lsas": authors.lsas(1, 1).state_dict(),
        "asr": authors.asr(1, both=True).state_dict(),
        "plain": nn.Sequential(nn.Linear(2, 2)).state_dict(),
    }
    for name, state in states.items():
        for kind in ("dianet", "ras", "lsas", "asr"):
            if kind != name:
                with pytest.raises(ValueError, match=f"not a checkpoint of kind '{kind}'"):
                    convert_checkpoint(state, kind)
