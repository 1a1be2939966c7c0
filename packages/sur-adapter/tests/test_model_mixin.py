"""One folder, two loaders: the plain module and diffusers' model; and the Hub, which no test reaches."""

import json

import pytest
import tiny_pipelines as tiny
import torch
from huggingface_hub import HfApi
from random_adapters import trained
from sur_adapter import Provenance, SURAdapter, SURAdapterBundle
from sur_adapter.integrations import _hub
from sur_adapter.integrations.diffusers import SURAdapterModel, attach, load_from_hub, push_to_hub

WHERE = Provenance(base_model_id="org/base", encoder_slot="text_encoder", encoder_field="last", teacher_layer="-1")


def same(one, two):
    assert one.state_dict().keys() == two.state_dict().keys()
    for name, value in one.state_dict().items():
        assert value.equal(two.state_dict()[name]), name
    x = torch.randn(2, 5, one.hidden_size)
    assert one(x).equal(two(x))


def test_diffusers_reads_what_the_plain_module_wrote(tmp_path):
    plain = trained(32, mixing="none", low_rank=16, scale=0.25, provenance=WHERE)
    plain.save_pretrained(tmp_path / "adapter")
    model = SURAdapterModel.from_pretrained(tmp_path / "adapter")
    same(plain, model)
    assert not model.training
    assert (model.config.mixing, model.config.low_rank, model.scale) == ("none", 16, 0.25)
    assert model.provenance == WHERE
    assert model.config.base_model_id == "org/base"


def test_the_plain_module_reads_what_diffusers_wrote_with_the_scale_of_now(tmp_path):
    model = SURAdapterModel(32, num_heads=4, ff_dim=64, encoder_slot="text_encoder")
    torch.nn.init.normal_(model.fc.weight)
    model.scale, model.provenance = 0.75, WHERE
    model.save_pretrained(tmp_path / "adapter")
    plain = SURAdapter.from_pretrained(tmp_path / "adapter")
    same(plain, model.eval())
    assert (plain.scale, plain.provenance) == (0.75, WHERE)
    again = SURAdapterModel.from_pretrained(str(tmp_path / "adapter"), torch_dtype=torch.float16)
    assert again.dtype == torch.float16
    assert again.scale == 0.75


def test_both_write_the_same_weights_file_and_the_same_entries(tmp_path):
    plain = trained(32, provenance=WHERE)
    plain.save_pretrained(tmp_path / "plain")
    SURAdapterModel.from_pretrained(tmp_path / "plain").save_pretrained(tmp_path / "model")
    weights = "diffusion_pytorch_model.safetensors"
    assert (tmp_path / "plain" / weights).read_bytes() == (tmp_path / "model" / weights).read_bytes()
    ours, theirs = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "model"))
    extra = {"_diffusers_version", "_name_or_path"}
    assert ours == {name: value for name, value in theirs.items() if name not in extra}


def test_the_model_attaches_trains_and_checkpoints_its_gradients(tmp_path):
    model = SURAdapterModel(32, num_heads=4, ff_dim=64)
    with attach(tiny.shared("sd15"), model) as handle:
        assert list(handle.adapters) == ["text_encoder"]
    model.train()
    torch.nn.init.normal_(model.fc.weight)
    x = torch.randn(2, 5, 32)

    def gradients():
        model.zero_grad()
        model(x).square().sum().backward()
        return [one.grad.clone() for one in model.parameters()]

    stored = gradients()
    model.enable_gradient_checkpointing()
    for one, two in zip(stored, gradients(), strict=True):
        torch.testing.assert_close(one, two)
    model.disable_gradient_checkpointing()
    with pytest.raises(ValueError, match="leave gradient_checkpointing_func out"):
        model.enable_gradient_checkpointing(lambda: None)


@pytest.mark.filterwarnings("ignore:.*local_dir_use_symlinks:UserWarning")  # of diffusers' own call
def test_bad_folders_are_named_and_never_become_an_error_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("/no/such/folder", "./adapter", tmp_path / "adapter", "a/b/c", "adapter"):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            SURAdapterModel.from_pretrained(name)
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            attach(tiny.shared("sd15"), name)
    with pytest.raises(FileNotFoundError, match="there is no folder runs/adapter"):
        attach(tiny.shared("sd15"), "runs/adapter")
    with pytest.raises(FileNotFoundError, match="there is no folder runs/adapter here, and the Hub gave no model"):
        SURAdapterModel.from_pretrained("runs/adapter", local_files_only=True)


def test_pickles_and_damaged_files_are_refused(tmp_path):
    trained(32).save_pretrained(tmp_path / "adapter")
    weights = tmp_path / "adapter" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        SURAdapterModel.from_pretrained(tmp_path / "adapter")
    weights.rename(tmp_path / "adapter" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="pickles are not loaded; `sur-adapter convert`"):
        SURAdapterModel.from_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="format_version is 2"):
        SURAdapterModel(32, format_version=2)


class FakeHub:
    """Keeps what is uploaded, and gives it back."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.calls = folder, []
        monkeypatch.setattr(HfApi, "create_repo", lambda api, repo_id, **options: self.calls.append((repo_id, options)))
        monkeypatch.setattr(HfApi, "upload_folder", self.upload)
        monkeypatch.setattr(_hub, "snapshot_download", self.download)

    def upload(self, *, repo_id, folder_path, commit_message):
        import shutil
        from types import SimpleNamespace

        shutil.copytree(folder_path, self.folder / repo_id)
        return SimpleNamespace(commit_url=f"hub:{repo_id}:{commit_message}")

    def download(self, repo_id, *, revision, token, allow_patterns):
        self.calls.append((repo_id, revision, allow_patterns))
        return str(self.folder / repo_id)


def test_push_to_the_hub_and_load_from_it(tmp_path, monkeypatch):
    hub = FakeHub(tmp_path, monkeypatch)
    bundle = SURAdapterBundle({"text_encoder": trained(32), "text_encoder_2": trained(48)})
    assert push_to_hub(bundle, "me/bundle", private=True, commit_message="first") == "hub:me/bundle:first"
    assert hub.calls == [("me/bundle", {"private": True, "exist_ok": True})]
    found = load_from_hub("me/bundle", revision="v1")
    assert isinstance(found, SURAdapterBundle)
    for slot, adapter in bundle.items():
        same(adapter, found[slot])
    assert hub.calls[-1] == ("me/bundle", "v1", ["*.json", "*.safetensors"])
    push_to_hub(bundle["text_encoder"], "me/adapter")
    same(bundle["text_encoder"], load_from_hub("me/adapter"))
    for name in ("not-a-repo", str(tmp_path), "a/b/c"):
        with pytest.raises(ValueError, match="not a name of the Hub"):
            load_from_hub(name)
