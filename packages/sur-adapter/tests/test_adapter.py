"""The module: identity at the start, what mixes with what, gradients, options; and what it refuses."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_adapters import trained
from sur_adapter import SURAdapter, functional
from tiny_pipelines import clip, t5
from torch import nn


def rederived(adapter, x, mask=None):
    """The formula in float64, prompt by prompt and head by head, with no attention kernel and no nn.Module."""
    weights = {name: value.double() for name, value in adapter.state_dict().items()}
    outs, states, corrections = [], [], []

    def linear(v, name):
        return v @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(v, name):
        centred = v - v.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    for row, prompt in enumerate(x.double()):
        allowed = torch.ones(len(prompt), dtype=torch.bool) if mask is None else mask[row]
        blocked = torch.zeros(len(prompt), dtype=torch.float64).masked_fill(~allowed, -math.inf)
        inner = prompt if adapter.low_rank is None else linear(prompt, "down")
        h = inner
        width, heads = inner.shape[-1], adapter.num_heads
        for layer in range(adapter.depth):
            name = f"layers.{layer}"
            mixed = linear(h, f"{name}.in_proj")
            if adapter.mixing == "tokens":
                q, k, v = mixed.split(width, -1)
                size = width // heads
                parts = []
                for head in range(heads):
                    one = slice(head * size, (head + 1) * size)
                    scores = q[:, one] @ k[:, one].T / math.sqrt(size) + blocked
                    parts.append(scores.softmax(-1) @ v[:, one])
                mixed = torch.cat(parts, -1)
            h = norm(h + linear(mixed, f"{name}.out_proj"), f"{name}.norm1")
            h = norm(h + linear(linear(h, f"{name}.linear1").relu(), f"{name}.linear2"), f"{name}.norm2")
        scores = linear(h, "query") @ linear(inner, "key").T / math.sqrt(width) + blocked
        v = scores.softmax(-1) @ inner + inner
        c = linear(linear(linear(v, "hidden").relu(), "output") + v, "fc")
        eta = adapter.scale
        outs.append(prompt + eta * c if adapter.residual == "add" else eta * c + (1 - eta) * prompt)
        states.append(h)
        corrections.append(c)
    return torch.stack(outs), torch.stack(states), torch.stack(corrections)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": 1, "num_heads": 1},
        {"mixing": "none", "depth": 3},
        {"low_rank": 16, "num_heads": 2},
        {"residual": "lerp", "ff_dim": 7},
        {"low_rank": 8, "mixing": "none", "residual": "lerp"},
    ],
    ids=str,
)
def test_all_three_outputs_follow_the_formula(options, mask):
    adapter = trained(32, **options).double()
    x = torch.randn(3, 9, 32, dtype=torch.float64)
    keep = torch.arange(9) < torch.tensor([[9], [4], [1]]) if mask else None
    with torch.no_grad():
        found = adapter(x, mask=keep, return_intermediates=True)
    for ours, expected in zip(found, rederived(adapter, x, keep), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)
    assert found[1].shape == (3, 9, adapter.width)


@given(
    batch=st.integers(1, 3),
    tokens=st.integers(1, 12),
    heads=st.sampled_from([1, 2, 4]),
    size=st.integers(1, 6),
    options=st.fixed_dictionaries(
        {"mixing": st.sampled_from(["tokens", "none"]), "depth": st.integers(1, 3), "mask_padding": st.booleans()}
    ),
    seed=st.integers(0, 99),
)
def test_a_fresh_adapter_is_the_identity_bit_for_bit(batch, tokens, heads, size, options, seed):
    torch.manual_seed(seed)
    adapter = SURAdapter(heads * size, num_heads=heads, ff_dim=5, scale=0.7, **options)
    x = 10 * torch.randn(batch, tokens, heads * size)
    out, _, c = adapter(x, return_intermediates=True)
    assert (out == x).all()
    assert not c.any()
    low = SURAdapter(heads * size + 1, num_heads=heads, ff_dim=5, low_rank=heads, **options)
    x = torch.randn(batch, tokens, heads * size + 1)
    assert (low(x) == x).all()


def test_no_prompt_sees_another_and_every_token_sees_every_other():
    adapter = trained(32)
    x = torch.randn(3, 6, 32)
    out = adapter(x)
    changed = x.clone()
    changed[1, 2] += 1
    difference = (adapter(changed) - out).abs().amax(-1)
    assert difference[[0, 2]].max() == 0
    assert (difference[1] > 0).all()
    torch.testing.assert_close(adapter(x.flip(0)), out.flip(0), atol=1e-6, rtol=0)
    for row in range(3):
        torch.testing.assert_close(adapter(x[row : row + 1])[0], out[row], atol=1e-6, rtol=0)


def test_without_mixing_the_encoder_state_of_a_token_depends_on_that_token_alone():
    adapter = trained(32, mixing="none")
    x = torch.randn(2, 6, 32)
    _, h, _ = adapter(x, return_intermediates=True)
    changed = x.clone()
    changed[1, 2] += 1
    difference = (adapter(changed, return_intermediates=True)[1] - h).abs().amax(-1)
    assert difference.nonzero().tolist() == [[1, 2]]


def test_batch_mixing_leaks_warns_and_has_no_mask():
    with pytest.warns(UserWarning, match="a prompt's result depends on the other prompts"):
        adapter = SURAdapter(32, num_heads=4, ff_dim=16, mixing="batch").eval()
    x = torch.randn(3, 6, 32)
    _, h, _ = adapter(x, return_intermediates=True)
    changed = x.clone()
    changed[1, 2] += 1
    difference = (adapter(changed, return_intermediates=True)[1] - h).abs().amax(-1)
    assert {tuple(place) for place in difference.nonzero().tolist()} == {(0, 2), (1, 2), (2, 2)}
    with pytest.raises(ValueError, match="has no mask"):
        adapter(x, mask=torch.ones(3, 6, dtype=torch.bool))
    with warnings.catch_warnings(), pytest.raises(ValueError, match="has no mask"):
        SURAdapter(32, mixing="batch", mask_padding=True)


def test_masked_tokens_are_looked_at_by_none():
    adapter = trained(32)
    x = torch.randn(2, 6, 32)
    mask = torch.arange(6) < torch.tensor([[4], [6]])
    out = adapter(x, mask=mask)
    changed = x.clone()
    changed[0, 4:] = 100.0
    assert adapter(changed, mask=mask)[0, :4].equal(out[0, :4])
    torch.testing.assert_close(adapter(x[:1, :4])[0], out[0, :4])
    assert adapter(x, mask=torch.ones_like(mask)).isfinite().all()
    assert adapter(x, mask=torch.zeros_like(mask)).equal(adapter(x)), "with nothing to look at, everything is"


@pytest.mark.parametrize("options", [{}, {"mixing": "none"}, {"low_rank": 16}, {"residual": "lerp"}], ids=str)
def test_every_parameter_gets_a_gradient(options):
    adapter = trained(32, **options).train()
    adapter(torch.randn(2, 5, 32)).square().sum().backward()
    for name, parameter in adapter.named_parameters():
        if name.endswith(("key.bias",)):
            continue  # softmax does not see a shift of all scores: the gradient of this bias is zero by nature
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_at_the_start_fc_alone_gets_a_gradient():
    adapter = SURAdapter(32, num_heads=4, ff_dim=16)
    adapter(torch.randn(2, 5, 32)).square().sum().backward()
    assert adapter.fc.weight.grad.abs().sum() > 0
    assert adapter.query.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("options", [{}, {"mixing": "none", "low_rank": 4}], ids=str)
def test_gradients_by_finite_differences(options):
    adapter = trained(8, num_heads=2, ff_dim=6, depth=1, **({"dtype": torch.float64} | options))
    mask = torch.tensor([[True, True, False], [True, True, True]])
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    parameters = [adapter.fc.weight, adapter.query.weight, adapter.layers[0].in_proj.weight]
    assert torch.autograd.gradcheck(lambda v, *_: adapter(v, mask=mask), (x, *parameters))


def test_gradient_checkpointing_gives_the_same_gradients_and_recomputes():
    adapter, x = trained(32, dropout=0.2).train(), torch.randn(2, 5, 32)
    runs = []
    adapter.layers[0].register_forward_pre_hook(lambda *_: runs.append(1))

    def gradients():
        torch.manual_seed(1)
        adapter.zero_grad()
        adapter(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in adapter.parameters()]

    stored = gradients()
    assert len(runs) == 1
    adapter.enable_gradient_checkpointing()
    for one, two in zip(stored, gradients(), strict=True):
        assert one.equal(two)
    assert len(runs) == 3, "the layer did not run again in the backward pass"
    adapter.eval()(x)
    assert len(runs) == 4
    adapter.train().disable_gradient_checkpointing()
    gradients()
    assert len(runs) == 5


def test_dropout_acts_in_training_mode_only():
    adapter, x = trained(32, dropout=0.5), torch.randn(2, 5, 32)
    assert adapter(x).equal(adapter(x))
    adapter.train()
    assert not adapter(x).equal(adapter(x))
    assert SURAdapter(32, num_heads=4, ff_dim=8).train().dropout == 0.0


def test_the_scale_of_a_call_and_of_the_adapter():
    adapter, x = trained(32), torch.randn(1, 4, 32)
    _, _, c = adapter(x, return_intermediates=True)
    assert adapter(x, scale=0.0).equal(x)
    torch.testing.assert_close(adapter(x, scale=0.3), x + 0.3 * c)
    adapter.scale = 0.8
    torch.testing.assert_close(adapter(x), x + 0.8 * c)
    assert adapter.scale == 0.8


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_scale_that_is_not_finite(value):
    message = f"scale is {value}; it must be finite"
    with pytest.raises(ValueError, match=message):
        SURAdapter(32, scale=value)
    adapter = SURAdapter(32, num_heads=4, ff_dim=8)
    with pytest.raises(ValueError, match=message):
        adapter.scale = value
    with pytest.raises(ValueError, match=message):
        adapter(torch.zeros(1, 2, 32), scale=value)
    assert adapter.scale == 0.1


def test_a_scale_outside_of_0_to_1_warns_and_a_word_is_refused():
    with pytest.warns(UserWarning, match=r"scale is -0\.5"):
        SURAdapter(32, num_heads=4, ff_dim=8, scale=-0.5)
    with pytest.raises(TypeError, match="scale is '1' of type str"):
        SURAdapter(32, scale="1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "num_heads=5 does not divide hidden_size=32"),
        ({"low_rank": 12}, "num_heads=8 does not divide low_rank=12"),
        ({"low_rank": 32}, r"low_rank is 32; it must lie in 1 \.\. 31"),
        ({"low_rank": 0}, "low_rank is 0"),
        ({"depth": 0}, "depth is 0; it must be a positive int"),
        ({"ff_dim": 2.0}, r"ff_dim is 2\.0"),
        ({"mixing": "all"}, "mixing is 'all'"),
        ({"residual": "sum"}, "residual is 'sum'"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"dropout": math.nan}, "dropout is nan"),
        ({"init": "zero"}, "init is 'zero'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        SURAdapter(32, **options)


def test_shapes_that_do_not_fit():
    adapter = SURAdapter(32, num_heads=4, ff_dim=8)
    with pytest.raises(ValueError, match=r"shape \(1, 4, 16\); this adapter expects \(B, N, 32\)"):
        adapter(torch.zeros(1, 4, 16))
    with pytest.raises(ValueError, match=r"shape \(4, 32\)"):
        adapter(torch.zeros(4, 32))
    with pytest.raises(ValueError, match=r"mask is torch.bool of shape \(1, 3\); expected torch.bool of \(1, 4\)"):
        adapter(torch.zeros(1, 4, 32), mask=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask is torch.int64"):
        adapter(torch.zeros(1, 4, 32), mask=torch.ones(1, 4, dtype=torch.int64))


def test_parameter_counts():
    def count(width, **options):
        return sum(one.numel() for one in SURAdapter(width, device="meta", **options).parameters())

    assert count(768) == 13_980_928
    assert count(4096) == 251_756_544
    assert count(4096, low_rank=512) < 15_000_000


def test_for_encoder_takes_width_device_and_dtype():
    assert SURAdapter.for_encoder(clip(48), ff_dim=8).hidden_size == 48
    adapter = SURAdapter.for_encoder(t5(80).bfloat16(), low_rank=16, ff_dim=8)
    assert (adapter.hidden_size, adapter.low_rank, adapter.fc.weight.dtype) == (80, 16, torch.bfloat16)
    with pytest.raises(ValueError, match="the config of Linear names no width"):
        SURAdapter.for_encoder(nn.Linear(2, 2))


def test_the_initial_parameters_are_those_of_torchs_encoder():
    torch.manual_seed(0)
    adapter = SURAdapter(64, ff_dim=128, depth=1)
    layer = adapter.layers[0]
    bound = math.sqrt(6 / (64 + 3 * 64))
    assert layer.in_proj.weight.abs().max() <= bound
    assert layer.in_proj.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not layer.in_proj.bias.any()
    assert not layer.out_proj.bias.any()
    assert not adapter.fc.weight.any()
    assert not adapter.fc.bias.any()


def test_meta_then_reset_is_an_ordinary_start():
    adapter = SURAdapter(32, num_heads=4, ff_dim=8, device="meta").to_empty(device="cpu")
    for parameter in adapter.parameters():
        nn.init.constant_(parameter, math.nan)
    adapter.reset_parameters()
    x = torch.randn(1, 3, 32)
    assert adapter(x).equal(x)
    assert all(parameter.isfinite().all() for parameter in adapter.parameters())


def test_dtype_and_autocast():
    adapter = SURAdapter(32, num_heads=4, ff_dim=8, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.bfloat16}
    assert adapter(torch.zeros(1, 2, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16
    x = torch.randn(1, 3, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert trained(32)(x).isfinite().all()


def test_compiled_in_one_graph_and_exported():
    adapter, x = trained(32), torch.randn(2, 5, 32)
    mask = torch.ones(2, 5, dtype=torch.bool)
    compiled = torch.compile(adapter, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, mask=mask), adapter(x, mask=mask))
    exported = torch.export.export(adapter, (x,))
    torch.testing.assert_close(exported.module()(x), adapter(x))


def test_repr_shows_what_was_chosen():
    assert "32, scale=0.5, mixing='tokens', residual='add', low_rank=16" in repr(trained(32, low_rank=16))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_token_mask_ends_with_the_first_end_token(ids):
    mask = functional.token_mask(torch.tensor([ids]), 5)[0].tolist()
    length = ids.index(5) + 1 if 5 in ids else len(ids)
    assert mask == [True] * length + [False] * (len(ids) - length)
