"""The adapter on a CUDA device: against float64 on the CPU, twice the same, in a CUDA graph, and over many prompts."""

import copy

import pytest
import torch
from random_adapters import trained
from sur_adapter.losses import kd

pytestmark = pytest.mark.gpu

MASK = torch.arange(77) < torch.tensor([[20], [77], [1]])


def setting(**options):
    """An adapter of 768 channels and states of three prompts."""
    adapter = trained(768, num_heads=8, ff_dim=2048, **options)
    return adapter, torch.randn(3, 77, 768, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, {"mixing": "none"}, {"low_rank": 256}], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 3e-2), (torch.float16, 1e-2)])
def test_outputs_against_float64(options, dtype, tolerance, masked):
    adapter, x = setting(**options)
    mask = MASK if masked else None
    expected = copy.deepcopy(adapter).double()(x.double(), mask=mask)
    found = adapter.to("cuda", dtype)(x.to("cuda", dtype), mask=None if mask is None else mask.cuda())
    assert (found.double().cpu() - expected).norm() / expected.norm() < tolerance


def test_gradients_against_float64():
    adapter, x = setting()
    target = torch.randn(3, 1, 768)

    def gradients(model, x, target, mask):
        _, h, _ = model.train()(x, mask=mask, return_intermediates=True)
        (kd(target, h) + model(x, mask=mask).square().mean()).backward()
        return {
            name: one.grad.double().cpu() for name, one in model.named_parameters() if not name.endswith("key.bias")
        }

    expected = gradients(copy.deepcopy(adapter).double(), x.double(), target.double(), MASK)
    found = gradients(adapter.cuda(), x.cuda(), target.cuda(), MASK.cuda())
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-2 * value.norm() + 1e-12, name


def test_twice_the_same_bits_and_a_batch_of_one():
    adapter, x = setting()
    adapter, x = adapter.cuda(), x.cuda()
    with torch.inference_mode():
        together = adapter(x)
        assert adapter(x).equal(together)
        for row in range(3):
            torch.testing.assert_close(adapter(x[row : row + 1])[0], together[row], atol=1e-3, rtol=1e-3)


def test_in_a_cuda_graph():
    adapter, x = setting()
    adapter, x = adapter.cuda(), x.cuda()
    with torch.inference_mode():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                adapter(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = adapter(x)
        x.copy_(2 * x)
        graph.replay()
        torch.testing.assert_close(out, adapter(x), atol=1e-4, rtol=1e-4)


def test_gradient_checkpointing_saves_memory():
    adapter, x = setting(depth=6)
    adapter, x = adapter.cuda().train(), x.cuda().repeat(16, 1, 1)

    def peak():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        adapter(x).square().mean().backward()
        adapter.zero_grad(set_to_none=True)
        return torch.cuda.max_memory_allocated() - before

    peak()
    stored = peak()
    adapter.enable_gradient_checkpointing()
    assert peak() < 0.8 * stored
