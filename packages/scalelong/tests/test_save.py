"""A saved model keeps its scaling, or says loudly that it lost it."""

import json

import pytest
import safetensors.torch
import torch
from scalelong import ScalingWarning, attach, attached, load, save
from scalelong._sites import call
from scalelong.nn import UViT
from scalelong_zoo import build


def run(model, inputs):
    with torch.no_grad():
        out = call(model, inputs)
    return getattr(out, "sample", out)


@pytest.mark.parametrize("mode", ["cs", "linear", "sqrt2", "ls_scalar", "ls_static", "function"])
def test_diffusers_round_trip_is_bit_equal(tmp_path, mode):
    from diffusers import UNet2DModel

    model, inputs = build("unet2d")
    attach(model, (lambda i, n: 1 / i) if mode == "function" else mode, kappa=0.6, sites=[1, 3, 4])
    if mode.startswith("ls"):
        with torch.no_grad():
            for p in attached(model).scaling.parameters():
                p.add_(0.1)
    for _ in range(2):  # the second time a directory is there already
        save(model, tmp_path / "model")
        again = load(UNet2DModel, tmp_path / "model")
        assert torch.equal(run(again, inputs), run(model, inputs))
    handle = attached(again)
    assert handle.scaling.config == attached(model).scaling.config
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_set_kappa_is_saved(tmp_path):
    from diffusers import UNet2DModel

    model, inputs = build("unet2d")
    attach(model, "cs", mutable=True).set_kappa(0.9)
    model.save_pretrained(tmp_path / "own")  # the library's own way of saving is enough
    again = load(UNet2DModel, tmp_path / "own")
    assert attached(again).kappas == tuple(0.9**i for i in range(6))
    assert torch.equal(run(again, inputs), run(model, inputs))


def test_constants_that_a_state_dict_replaced_are_saved(tmp_path):
    from diffusers import UNet2DModel

    model, inputs = build("unet2d")
    attach(model, "cs", kappa=0.9)
    other, _ = build("unet2d")
    attach(other, "cs", kappa=0.5)
    with pytest.warns(ScalingWarning):
        model.load_state_dict(other.state_dict())
    save(model, tmp_path / "model")
    with pytest.warns(ScalingWarning, match="which replace"):
        again = load(UNet2DModel, tmp_path / "model")
    assert attached(again).kappas == attached(model).kappas == tuple(0.5**i for i in range(6))
    assert torch.equal(run(again, inputs), run(model, inputs))


def test_a_plain_load_is_loud(tmp_path, caplog):
    from diffusers import UNet2DModel
    from diffusers.utils import logging

    model, _ = build("unet2d")
    attach(model, "cs", kappa=0.6)
    save(model, tmp_path / "model")
    logging.enable_propagation()
    try:
        plain = UNet2DModel.from_pretrained(tmp_path / "model")
    finally:
        logging.disable_propagation()
    assert attached(plain) is None
    assert "scalelong_config" in caplog.text
    assert "scalelong.scale.kappas" in caplog.text


def test_what_an_ema_wrote_without_the_gates_is_refused(tmp_path):
    from diffusers import UNet2DModel
    from diffusers.training_utils import EMAModel

    model, inputs = build("unet2d")
    attach(model, "ls_scalar")
    ema = EMAModel(model.parameters(), model_cls=UNet2DModel, model_config=model.config)
    ema.step(model.parameters())
    ema.save_pretrained(tmp_path / "gates")
    with pytest.raises(ValueError, match="its parameters are missing"):
        load(UNet2DModel, tmp_path / "gates")
    attached(model).detach()
    attach(model, "cs", kappa=0.5)
    ema = EMAModel(model.parameters(), model_cls=UNet2DModel, model_config=model.config)
    ema.save_pretrained(tmp_path / "constants")
    again = load(UNet2DModel, tmp_path / "constants")
    assert torch.equal(run(again, inputs), run(model, inputs))


@pytest.mark.parametrize("scaling", ["cs", "sqrt2", "ls", "ls_nonshared", None])
def test_uvit_round_trip(tmp_path, scaling):
    net = UViT(8, 2, 1, 32, 6, 2, num_classes=3, scaling=scaling, kappa=0.6)
    inputs = (torch.randn(2, 1, 8, 8), torch.tensor([1, 2]), torch.tensor([0, 2]))
    save(net, tmp_path / "net")
    again = load(UViT, tmp_path / "net")
    assert again.config == net.config
    assert torch.equal(run(again, inputs), run(net, inputs))


@pytest.mark.parametrize("name", ["smp", "guided", "uvit", "monai-basic"])
def test_other_models_round_trip(tmp_path, name):
    model, inputs = build(name)
    attach(model, "cs", kappa=0.6)
    save(model, tmp_path / "net.safetensors")
    plain, _ = build(name)
    with torch.no_grad():
        for p in plain.parameters():
            p.zero_()
    again = load(plain, tmp_path / "net.safetensors")
    assert again is plain
    assert torch.equal(run(again, inputs), run(model, inputs))
    with pytest.raises(ValueError, match="scaled already"):
        load(again, tmp_path / "net.safetensors")


def test_files_that_do_not_fit(tmp_path):
    model, _ = build("guided")
    with pytest.raises(ValueError, match="has no scaling"):
        save(model, tmp_path / "x")
    attach(model, "cs")
    path = tmp_path / "net"
    save(model, path)
    with pytest.raises(ValueError, match="weights only"):
        load(UViT, path)
    other = UViT(8, 2, 1, 32, 4, 2)
    state = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit this UViT"):
        load(other, path)
    assert attached(other) is None
    assert all(torch.equal(v, state[k]) for k, v in other.state_dict().items())
    whole = path.read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            load(build("guided")[0], path)
    foreign = tmp_path / "foreign"
    safetensors.torch.save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(ValueError, match=r"not written by scalelong\.save"):
        load(other, foreign)
    safetensors.torch.save_file({"a": torch.zeros(1)}, foreign, metadata={"scalelong": json.dumps([1])})
    with pytest.raises(ValueError, match="is damaged"):
        load(other, foreign)
    with pytest.raises(FileNotFoundError):
        load(other, tmp_path / "nowhere")


def test_directories_that_do_not_fit(tmp_path):
    from diffusers import UNet2DModel

    model, _ = build("unet2d")
    model.save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="names no scaling"):
        load(UNet2DModel, tmp_path / "plain")
    with pytest.raises(ValueError, match="is a directory"):
        load(model, tmp_path / "plain")
    attach(model, "cs")
    save(model, tmp_path / "scaled")
    config = json.loads((tmp_path / "scaled" / "config.json").read_text())
    config["scalelong_config"]["count"] = 7
    (tmp_path / "scaled" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="7 skips were scaled"):
        load(UNet2DModel, tmp_path / "scaled")
