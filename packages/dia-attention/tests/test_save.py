"""save and load: round trips, and files that are refused without touching the model."""

import json

import pytest
import torch
from dia_attention import attach, cifar_resnet, fold, load, save, share
from dia_attention._find import attached_configs
from safetensors.torch import load_file, save_file

GOOD = {"name": "dia", "stages": [0, 1, 2], "init": "paper", "check_finite": False, "options": {"reduction": 4}}
GOOD |= {"per": "stage", "share_norm": True, "folded": False}


def trained_net(name="dia", **options):
    net = cifar_resnet(11)
    attach(net, name, **options)
    net.train()(torch.randn(4, 3, 8, 8))  # moves the running statistics
    return net.eval()


@pytest.fixture
def saved(tmp_path):
    save(trained_net(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dia", {}),
        ("dia", {"stages": (-1,), "reduction": 16, "init": "identity", "check_finite": True}),
        ("asr", {"base": "eca", "stack": 2, "stages": (0, 2)}),
        ("asr", {"layers": ["*.bn1"]}),
        ("cbam", {"kernel_size": 3}),
        ("eca", {}),
        ("lsas", {"base": "eca", "order": 2}),
        ("ras", {"init": "paper"}),
        ("se", {"reduction": 8}),
        ("step", {"inputs": "qp"}),
    ],
)
def test_round_trip(tmp_path, name, options):
    net = trained_net(name, **options).to(memory_format=torch.channels_last)
    save(net, str(tmp_path / "net.safetensors"))
    other = cifar_resnet(11).eval()
    assert load(tmp_path / "net.safetensors", other) is other
    assert list(other.state_dict()) == list(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), net.state_dict().values(), strict=True))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(other(x), net.to(memory_format=torch.contiguous_format)(x))
    ours, theirs = attached_configs(other), attached_configs(net)
    assert [config.stages for config in ours] == [tuple(config.stages) for config in theirs]
    save(other, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()


def test_round_trip_of_two_attentions_of_shared_and_of_folded_ones(tmp_path):
    def two(net):
        attach(net, "se")
        attach(net, "asr")

    makers = [two, lambda net: share(net, "cbam"), lambda net: share(net, "ras"), lambda net: attach(net, "ras")]
    for index, make in enumerate(makers):
        net = cifar_resnet(20)
        make(net)
        net(torch.randn(4, 3, 8, 8))
        net = fold(net.eval()) if index >= 2 else net.eval()
        save(net, tmp_path / "net.safetensors")
        other = load(tmp_path / "net.safetensors", cifar_resnet(20).eval())
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(other(x), net(x))
        assert list(other.state_dict()) == list(net.state_dict())


def test_an_attention_of_ones_own_class_cannot_be_named(tmp_path):
    net = cifar_resnet(11)
    share(net, torch.nn.InstanceNorm2d)
    with pytest.raises(ValueError, match=r"a file cannot name attention=.*InstanceNorm2d"):
        save(net, tmp_path / "net.safetensors")


def test_the_cell_is_stored_once(saved):
    assert sum(".dia.w_ih1" in key for key in load_file(saved)) == 3


def refused(path, message, model=None):
    model = cifar_resnet(11) if model is None else model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load(path, model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_a_truncated_file(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    refused(saved, "not a whole safetensors file")


def test_a_foreign_file(tmp_path):
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    refused(tmp_path / "foreign.safetensors", "not written by dia_attention.save")
    (tmp_path / "text").write_text("not tensors at all")
    refused(tmp_path / "text", "not a whole safetensors file")


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "3",
        "{}",
        json.dumps(GOOD),
        json.dumps([3]),
        json.dumps([GOOD | {"name": "shared"}]),
        json.dumps([GOOD | {"other": 1}]),
        json.dumps([GOOD | {"stages": [7]}]),
        json.dumps([GOOD | {"stages": 7}]),
        json.dumps([GOOD | {"options": 3}]),
        json.dumps([GOOD | {"options": {"gamma": 1}}]),
        json.dumps([GOOD | {"options": {"reduction": "4"}}]),
        json.dumps([GOOD | {"per": "net"}]),
        json.dumps([GOOD | {"folded": True}]),
        json.dumps([GOOD, GOOD]),
    ],
)
def test_damaged_metadata(saved, config):
    save_file(load_file(saved), saved, metadata={"dia_attention": config})
    refused(saved, "net.safetensors: ")


def test_metadata_as_written_by_hand(saved):
    save_file(load_file(saved), saved, metadata={"dia_attention": json.dumps([GOOD])})
    assert load(saved, cifar_resnet(11)).layer1.config.stages == (0, 1, 2)


def test_another_architecture(saved):
    refused(saved, r"layer1\.1\.conv1\.weight is missing", cifar_resnet(20))
    refused(saved, r"fc\.weight has shape \(10, 256\), expected \(5, 256\)", cifar_resnet(11, num_classes=5))
    refused(saved, "is unknown", cifar_resnet(11, skip="none"))


def test_an_attached_model_is_refused(saved):
    refused(saved, "attached already", cifar_resnet(11, attention="dia"))


def test_a_plain_model_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="call attach first"):
        save(cifar_resnet(11), tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        load(tmp_path / "absent.safetensors", cifar_resnet(11))


def test_a_failed_save_leaves_the_earlier_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(trained_net(), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
