"""Folders: what is written, read back, and refused."""

import json
import shutil

import pytest
import torch
from random_adapters import trained
from safetensors.torch import load_file, save_file
from sur_adapter import Provenance, SURAdapter, SURAdapterBundle, _save
from sur_adapter._bundle import load_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"
WHERE = Provenance("org/base", "text_encoder", "last", "org/teacher", "-1:raw", "mean")


@pytest.fixture
def saved(tmp_path):
    trained(32, provenance=WHERE).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def change(folder, **entries):
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in (config | entries).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "options",
    [
        {"provenance": WHERE},
        {"mixing": "none", "depth": 3, "scale": 0.25, "dropout": 0.125},
        {"residual": "lerp", "low_rank": 16, "mask_padding": True, "init": "original"},
        {"dtype": torch.bfloat16},
        {"dtype": torch.float16},
    ],
    ids=str,
)
def test_round_trip(tmp_path, options):
    adapter = trained(32, **options).train()
    adapter.save_pretrained(str(tmp_path / "a" / "adapter"))
    found = SURAdapter.from_pretrained(str(tmp_path / "a" / "adapter"))
    assert _save.describe(found) == _save.describe(adapter)
    assert not found.training
    for name, value in adapter.state_dict().items():
        assert found.state_dict()[name].equal(value)
        assert found.state_dict()[name].dtype == value.dtype
    found.save_pretrained(tmp_path / "again")
    for name in (WEIGHTS, "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "a" / "adapter" / name).read_bytes()
    assert all(parameter.requires_grad for parameter in found.parameters())
    found.train()(torch.randn(1, 2, 32, dtype=found.fc.weight.dtype)).sum().backward()


def test_the_layout_is_that_of_diffusers(saved):
    assert names_in(saved) == ["config.json", WEIGHTS]
    config = json.loads((saved / "config.json").read_text())
    assert config["_class_name"] == "SURAdapterModel"
    assert config["format_version"] == 1
    assert config["base_model_id"] == "org/base"
    assert (config["teacher_id"], config["teacher_layer"], config["teacher_pooling"]) == (
        "org/teacher",
        "-1:raw",
        "mean",
    )
    assert load_file(saved / WEIGHTS).keys() == trained(32).state_dict().keys()


def test_dtype_and_device_on_loading(saved):
    assert SURAdapter.from_pretrained(saved, dtype=torch.float16).fc.weight.dtype == torch.float16
    assert SURAdapter.from_pretrained(saved, device="meta").fc.weight.device.type == "meta"


def test_the_authors_module_round_trips_without_a_second_warning(tmp_path, recwarn):
    with pytest.warns(UserWarning, match="mixing='batch'"):
        adapter = SURAdapter.original(32, num_heads=4, ff_dim=8)
    adapter.save_pretrained(tmp_path / "adapter")
    found = SURAdapter.from_pretrained(tmp_path / "adapter")
    assert not recwarn.list
    assert (found.mixing, found.residual, found.dropout, found.init) == ("batch", "lerp", 0.1, "original")
    x = torch.randn(2, 3, 32)
    assert found(x).equal(adapter.eval()(x))


def test_a_save_replaces_and_keeps_what_else_is_there(saved):
    (saved / "README.md").write_text("mine")
    other = trained(32, seed=9, mixing="none")
    other.save_pretrained(saved)
    assert (saved / "README.md").read_text() == "mine"
    assert SURAdapter.from_pretrained(saved).fc.weight.equal(other.fc.weight)


def test_a_save_that_fails_leaves_nothing_new_and_the_old_as_it_was(tmp_path, saved, monkeypatch):
    before = {name: (saved / name).read_bytes() for name in names_in(saved)}
    real = _save.write_atomic

    def full(path, data):
        if path.name == "config.json":
            raise OSError("disk full")
        real(path, data)

    monkeypatch.setattr(_save, "write_atomic", full)
    with pytest.raises(OSError, match="disk full"):
        trained(32).save_pretrained(tmp_path / "new")
    assert names_in(tmp_path) == ["adapter"]
    with pytest.raises(OSError, match="disk full"):
        trained(32, provenance=WHERE).save_pretrained(saved)
    assert {name: (saved / name).read_bytes() for name in names_in(saved)} == before


def test_saving_to_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; give a folder to save to"):
        trained(32).save_pretrained(tmp_path / "file")


def test_a_bundle_round_trips(tmp_path):
    bundle = SURAdapterBundle({"text_encoder": trained(32, provenance=WHERE), "text_encoder_2": trained(48)})
    bundle.save_pretrained(tmp_path / "bundle")
    assert names_in(tmp_path / "bundle") == ["bundle.json", "text_encoder", "text_encoder_2"]
    found = SURAdapterBundle.from_pretrained(tmp_path / "bundle", dtype=torch.float64)
    assert list(found) == ["text_encoder", "text_encoder_2"]
    assert len(found) == 2
    assert found["text_encoder"].provenance == WHERE
    assert not found.training
    for slot, adapter in bundle.items():
        assert found[slot].fc.weight.equal(adapter.fc.weight.double())
    assert isinstance(load_folder(tmp_path / "bundle"), SURAdapterBundle)
    assert isinstance(load_folder(tmp_path / "bundle" / "text_encoder"), SURAdapter)


def test_bad_bundles(tmp_path):
    with pytest.raises(ValueError, match="at least one adapter"):
        SURAdapterBundle({})
    with pytest.raises(TypeError, match="the adapter of 'text_encoder' is a Linear"):
        SURAdapterBundle({"text_encoder": torch.nn.Linear(2, 2)})
    for slot in ("../text_encoder", "text encoder", "", 3):
        with pytest.raises(ValueError, match="is not the name of a pipeline's attribute"):
            SURAdapterBundle({slot: trained(32)})
    bundle = SURAdapterBundle({"text_encoder": trained(32)})
    with pytest.raises(KeyError, match="the bundle has no adapter for 'text_encoder_2'; it has text_encoder"):
        bundle["text_encoder_2"]
    bundle.save_pretrained(tmp_path / "bundle")
    listed = tmp_path / "bundle" / "bundle.json"
    for content, message in (
        ('{"format_version": 2}', "format_version is 2"),
        ('{"format_version": 1, "slots": []}', r"slots is \[\]"),
        ('{"format_version": 1, "slots": ["../x"]}', "not the name of a pipeline's attribute"),
        ('{"format_version": 1, "slots": ["text_encoder_2"]}', "there is no folder"),
        ("[]", "holds a list"),
    ):
        listed.write_text(content)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            SURAdapterBundle.from_pretrained(tmp_path / "bundle")
    listed.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no bundle\.json"):
        SURAdapterBundle.from_pretrained(tmp_path / "bundle")


class TestRefused:
    @pytest.mark.parametrize("load", [SURAdapter.from_pretrained, SURAdapterBundle.from_pretrained, load_folder])
    def test_a_missing_folder_is_named_with_its_absolute_path(self, load, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("user/model", "adapter", "./adapter"):
            with pytest.raises(FileNotFoundError, match=rf"no folder .*\(absolute: {tmp_path}.*nothing is downloaded"):
                load(name)

    @pytest.mark.parametrize("name", ["adapter.pt", "adapter.bin", "adapter.ckpt", "adapter.pth"])
    def test_pickles(self, saved, tmp_path, name):
        (tmp_path / name).write_bytes(b"pickle")
        with pytest.raises(ValueError, match="pickles are not loaded; `sur-adapter convert`"):
            SURAdapter.from_pretrained(tmp_path / name)
        (saved / WEIGHTS).unlink()
        (tmp_path / name).rename(saved / name)
        with pytest.raises(ValueError, match=f"holds {name} and no {WEIGHTS}: pickles are not loaded"):
            SURAdapter.from_pretrained(saved)

    def test_a_file_instead_of_the_folder(self, saved):
        with pytest.raises(ValueError, match="is a file; give the folder"):
            SURAdapter.from_pretrained(saved / WEIGHTS)

    @pytest.mark.parametrize("keep", [0, 7, 100, -1])
    def test_corrupt_safetensors(self, saved, keep):
        data = (saved / WEIGHTS).read_bytes()
        (saved / WEIGHTS).write_bytes(data[:keep])
        with pytest.raises(ValueError, match=f"{WEIGHTS} is not a whole safetensors file"):
            SURAdapter.from_pretrained(saved)

    @pytest.mark.parametrize("name", ["config.json", WEIGHTS])
    def test_a_missing_file(self, saved, name):
        (saved / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"holds no {name}"):
            SURAdapter.from_pretrained(saved)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]"])
    def test_a_config_that_is_no_object(self, saved, content):
        (saved / "config.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"config\.json (is not JSON|holds a list)"):
            SURAdapter.from_pretrained(saved)

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ({"format_version": 2}, "format_version is 2; this version reads 1"),
            ({"format_version": ...}, "format_version is None"),
            ({"hidden_size": ...}, "hidden_size is missing"),
            ({"extra": 1}, "unknown entry 'extra'"),
            ({"scale": float("nan")}, "scale is nan; it must be finite"),
            ({"scale": "big"}, "scale is 'big'"),
            ({"mixing": "all"}, "mixing is 'all'"),
            ({"hidden_size": 64}, r"in_proj.weight has shape \(96, 32\), and config.json asks for \(192, 64\)"),
            ({"depth": 3}, "the weights lack layers.2.in_proj.weight"),
            ({"depth": 1}, "the weights hold layers.1.in_proj.bias, which config.json does not ask for"),
            ({"num_heads": "4"}, "num_heads is '4'"),
        ],
    )
    def test_a_config_that_does_not_fit(self, saved, entries, message):
        change(saved, **entries)
        with pytest.raises(ValueError, match=message):
            SURAdapter.from_pretrained(saved)

    def test_weights_of_another_shape(self, saved):
        tensors = load_file(saved / WEIGHTS)
        save_file(tensors | {"fc.weight": torch.zeros(2, 2)}, saved / WEIGHTS)
        with pytest.raises(ValueError, match=r"fc.weight has shape \(2, 2\)"):
            SURAdapter.from_pretrained(saved)

    def test_no_file_is_executed(self, saved):
        shutil.copy(__file__, saved / "modeling.py")
        (saved / "custom.py").write_text("raise SystemExit('executed')")
        SURAdapter.from_pretrained(saved)
