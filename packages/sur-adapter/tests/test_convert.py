"""The authors' checkpoints: the outputs of their formula, derived anew, at batch 3 and 1; and what is refused."""

import math
import pickle

import pytest
import torch
from sur_adapter import Provenance, SURAdapter, convert_original_checkpoint
from sur_adapter._convert import ConvertConfig, convert

WIDTH, FF, DEPTH, ETA = 32, 2048, 2, 0.1


def authors_state(width=WIDTH, depth=DEPTH, seed=0, unused=True):
    """Random tensors under the names that the authors' training saves; no layer is zero, so that all show."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator) * shape[-1] ** -0.5

    state = {}
    layers = [f"transformer_encoder.layers.{number}" for number in range(depth)]
    for name in [*layers, *(["encoder_layer"] if unused else [])]:
        state |= {f"{name}.self_attn.in_proj_weight": draw(3 * width, width)}
        state |= {f"{name}.self_attn.in_proj_bias": draw(3 * width)}
        for part, shape in {
            "self_attn.out_proj": (width, width),
            "linear1": (FF, width),
            "linear2": (width, FF),
        }.items():
            state |= {f"{name}.{part}.weight": draw(*shape), f"{name}.{part}.bias": draw(shape[0])}
        for part in ("norm1", "norm2"):
            state |= {f"{name}.{part}.weight": 1 + draw(width), f"{name}.{part}.bias": draw(width)}
    names = ["query_layer", "key_layer", "output_layer.0", "output_layer.2", *(["value_layer"] if unused else [])]
    for name in (*(f"attention.{part}" for part in names), "fc"):
        state |= {f"{name}.weight": draw(width, width), f"{name}.bias": draw(width)}
    return state


def authors_outputs(state, x, eta):
    """Their three outputs, written from the formulas in float64: one head, one position, one prompt at a time."""
    state = {name: value.double() for name, value in state.items()}
    x = x.double()
    batch, length, width = x.shape
    size = width // 8

    def linear(v, name):
        return torch.einsum("...i,oi->...o", v, state[f"{name}.weight"]) + state[f"{name}.bias"]

    def norm(v, name):
        variance, mean = torch.var_mean(v, -1, correction=0, keepdim=True)
        return (v - mean) / torch.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]

    h = x.clone()
    for number in range(sum(name.endswith("in_proj_bias") for name in state if name.startswith("transformer"))):
        name = f"transformer_encoder.layers.{number}"
        qkv = torch.einsum("...i,oi->...o", h, state[f"{name}.self_attn.in_proj_weight"])
        qkv = qkv + state[f"{name}.self_attn.in_proj_bias"]
        mixed = torch.zeros_like(h)
        for position in range(length):  # (sequence, batch, width) is what their encoder takes (B, 77, d) for
            for head in range(8):
                q, k, v = (
                    qkv[:, position, part * width + head * size : part * width + (head + 1) * size] for part in range(3)
                )
                for row in range(batch):
                    weights = torch.stack([(q[row] * k[other]).sum() / math.sqrt(size) for other in range(batch)])
                    weights = weights.exp() / weights.exp().sum()
                    mixed[row, position, head * size : (head + 1) * size] = (weights[:, None] * v).sum(0)
        h = norm(h + linear(mixed, f"{name}.self_attn.out_proj"), f"{name}.norm1")
        h = norm(h + linear(linear(h, f"{name}.linear1").clamp(min=0), f"{name}.linear2"), f"{name}.norm2")
    query, key = linear(h, "attention.query_layer"), linear(x, "attention.key_layer")
    scores = torch.einsum("bnd,bmd->bnm", query, key) / math.sqrt(width)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    attended = torch.einsum("bnm,bmd->bnd", weights, x) + x
    inner = linear(attended, "attention.output_layer.0").clamp(min=0)
    c = linear(linear(inner, "attention.output_layer.2") + attended, "fc")
    return eta * c + (1 - eta) * x, h, c


@pytest.mark.parametrize("batch", [3, 1])
@pytest.mark.parametrize("depth", [2, 1])
@pytest.mark.filterwarnings("ignore:mixing='batch':UserWarning")
def test_the_three_outputs_are_the_authors(batch, depth):
    state = authors_state(depth=depth)
    adapter = convert_original_checkpoint(state, eta=ETA)
    x = torch.randn(batch, 7, WIDTH)
    expected = authors_outputs(state, x, ETA)
    with torch.no_grad():
        for ours, theirs in zip(adapter(x, return_intermediates=True), expected, strict=True):
            torch.testing.assert_close(ours.double(), theirs, atol=2e-6, rtol=1e-5)  # of float32 arithmetic
        exact = adapter.double()(x.double(), return_intermediates=True)
    for ours, theirs in zip(exact, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


def test_served_alone_every_prompt_has_its_output_of_batch_1():
    state = authors_state()
    adapter = convert_original_checkpoint(state, eta=ETA, mixing="none").double()
    x = torch.randn(3, 7, WIDTH)
    with torch.no_grad():
        found = adapter(x.double(), return_intermediates=True)
    for row in range(3):
        for ours, theirs in zip(found, authors_outputs(state, x[row : row + 1], ETA), strict=True):
            torch.testing.assert_close(ours[row], theirs[0], atol=1e-10, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:mixing='batch':UserWarning")
def test_the_real_width_has_their_live_parameters():
    def count(state):
        return sum(value.numel() for value in state.values())

    state = authors_state(768)
    assert count(state) == 20_085_504
    adapter = convert_original_checkpoint(state, eta=0.01)
    assert sum(parameter.numel() for parameter in adapter.parameters()) == 13_980_928
    assert (adapter.scale, adapter.depth, adapter.ff_dim, adapter.training) == (0.01, 2, 2048, False)


@pytest.mark.filterwarnings("ignore:mixing='batch':UserWarning")
def test_the_preset_is_their_start():
    adapter = SURAdapter.original(WIDTH, scale=0.25)
    assert adapter.training
    assert adapter.dropout == 0.1
    assert not adapter.fc.weight.any()
    bound = WIDTH**-0.5
    assert adapter.fc.bias.any()
    assert adapter.fc.bias.abs().max() <= bound
    x = torch.randn(2, 3, WIDTH)
    torch.testing.assert_close(adapter.eval()(x), 0.75 * x + 0.25 * adapter.fc.bias)


@pytest.mark.filterwarnings("ignore:mixing='batch':UserWarning")
def test_from_a_file_and_from_a_distributed_run(tmp_path):
    state = authors_state()
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "adapter_checkpoint1000.pt")
    adapter = convert_original_checkpoint(tmp_path / "adapter_checkpoint1000.pt", eta=ETA)
    assert adapter.fc.weight.equal(state["fc.weight"])


def test_the_command_writes_a_folder(tmp_path, capsys):
    torch.save(authors_state(), tmp_path / "a.pt")
    convert(ConvertConfig(checkpoint=tmp_path / "a.pt", out=tmp_path / "out", eta=0.3, base_model_id="org/base"))
    assert "2 layers" in capsys.readouterr().out
    found = SURAdapter.from_pretrained(tmp_path / "out")
    assert (found.scale, found.mixing, found.residual) == (0.3, "none", "lerp")
    assert found.provenance == Provenance("org/base", "text_encoder", "last")


class Bomb:
    """Its unpickling would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


class TestRefused:
    def test_a_pickle_that_holds_code(self, tmp_path):
        (tmp_path / "bad.pt").write_bytes(pickle.dumps({"fc.weight": Bomb(tmp_path / "written")}, protocol=2))
        with pytest.raises(ValueError, match="holds more than tensors or is damaged; nothing of it was loaded"):
            convert_original_checkpoint(tmp_path / "bad.pt", eta=ETA)
        torch.save({"fc.weight": Bomb(tmp_path / "written")}, tmp_path / "bad2.pt")
        with pytest.raises(ValueError, match="holds more than tensors"):
            convert_original_checkpoint(tmp_path / "bad2.pt", eta=ETA)
        assert not (tmp_path / "written").exists()

    @pytest.mark.parametrize("keep", [0, 10, -50])
    def test_a_damaged_file(self, tmp_path, keep):
        torch.save(authors_state(), tmp_path / "a.pt")
        (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:keep])
        with pytest.raises(ValueError, match="is damaged"):
            convert_original_checkpoint(tmp_path / "a.pt", eta=ETA)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            convert_original_checkpoint(tmp_path / "a.pt", eta=ETA)

    def test_something_else_in_the_file(self, tmp_path):
        for content in ([1, 2], {"step": 3}):
            torch.save(content, tmp_path / "a.pt")
            with pytest.raises(ValueError, match="does not hold a state dict"):
                convert_original_checkpoint(tmp_path / "a.pt", eta=ETA)

    @pytest.mark.parametrize("eta", [math.nan, math.inf])
    def test_eta(self, eta):
        with pytest.raises(ValueError, match=f"eta is {eta}"):
            convert_original_checkpoint(authors_state(), eta=eta)

    def test_mixing(self):
        with pytest.raises(ValueError, match="mixing is 'tokens'"):
            convert_original_checkpoint(authors_state(), eta=ETA, mixing="tokens")

    @pytest.mark.filterwarnings("ignore:mixing='batch':UserWarning")
    def test_another_network(self):
        state = authors_state(unused=False)
        for change, message in (
            ({"fc.bias": ...}, "fc.bias is missing"),
            ({"extra": torch.zeros(1)}, "extra is unknown"),
            ({"attention.key_layer.weight": torch.zeros(2, 2)}, r"key.weight has shape \(2, 2\), expected \(32, 32\)"),
            ({"transformer_encoder.layers.1.linear1.weight": ...}, "layers.1.linear1.weight is missing"),
        ):
            changed = {name: value for name, value in (state | change).items() if value is not ...}
            with pytest.raises(ValueError, match=message):
                convert_original_checkpoint(changed, eta=ETA)
        with pytest.raises(ValueError, match="not a checkpoint of the authors' Adapter"):
            convert_original_checkpoint({}, eta=ETA)
