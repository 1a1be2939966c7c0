"""Together with what people use: checkpointing, EMA, accelerate, FreeU, LoRA, ControlNet, inductor."""

import pytest
import torch
from scalelong import attach, attached
from scalelong._sites import call
from scalelong_zoo import build


def gradients(model, inputs):
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(call(model, inputs).sample.square().sum(), parameters, allow_unused=True)


@pytest.mark.parametrize("mode", ["cs", "ls_scalar"])
@pytest.mark.parametrize("name", ["unet2d", "sd"])
def test_gradient_checkpointing_changes_no_gradient(name, mode):
    model, inputs = build(name)
    model.train()
    attach(model, mode, kappa=0.6)
    plain = gradients(model, inputs)
    model.enable_gradient_checkpointing()
    for a, b in zip(plain, gradients(model, inputs), strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_ema_follows_the_learnable_scaling():
    from diffusers.training_utils import EMAModel

    model, inputs = build("unet2d")
    handle = attach(model, "ls_static", kappa=0.5)
    ema = EMAModel(model.parameters(), decay=0.5)
    ema.step(model.parameters())  # the first step copies
    with torch.no_grad():
        handle.scaling.scale.kappas.add_(1.0)
    ema.step(model.parameters())
    ema.copy_to(model.parameters())
    start = torch.tensor([0.5**i for i in range(6)])
    assert torch.all(handle.scaling.scale.kappas > start)
    assert torch.all(handle.scaling.scale.kappas < start + 1)
    assert torch.isfinite(call(model, inputs).sample).all()


@pytest.fixture
def accelerate():
    module = pytest.importorskip("accelerate")
    module.state.AcceleratorState._reset_state(reset_partial_state=True)  # one precision a process, unless told
    yield module
    module.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_accelerate_trains_in_bf16(accelerate):
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    model, inputs = build("unet2d")
    handle = attach(model, "ls_scalar")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    before = [p.detach().clone() for p in handle.scaling.parameters()]
    accelerator.backward(wrapped(**inputs).sample.square().mean())
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, handle.scaling.parameters(), strict=True) if a.dim() == 2)
    assert attached(accelerator.unwrap_model(wrapped)).scaling is handle.scaling


def test_autocast():
    model, inputs = build("unet2d")
    for mode in ("cs", "ls_scalar"):
        handle = attach(model, mode, kappa=0.5)
        exact = call(model, inputs).sample
        with torch.autocast("cpu", torch.bfloat16):
            low = call(model, inputs).sample
        assert (low.float() - exact).norm() < 0.05 * exact.norm()
        handle.detach()


def test_freeu_sees_the_scaled_skip():
    model, inputs = build("sd")
    plain = call(model, inputs).sample
    model.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    free = call(model, inputs).sample
    handle = attach(model, "cs", kappa=0.5)
    both = call(model, inputs).sample
    model.disable_freeu()
    scaled = call(model, inputs).sample
    outs = [plain, free, both, scaled]
    assert all(not torch.equal(a, b) for i, a in enumerate(outs) for b in outs[:i])
    handle.detach()
    assert torch.equal(call(model, inputs).sample, plain)


def test_lora_goes_on_top():
    peft = pytest.importorskip("peft")
    model, inputs = build("sd")
    attach(model, "cs", kappa=0.5)
    scaled = call(model, inputs).sample
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    assert not torch.equal(call(model, inputs).sample, scaled)
    model.disable_adapters()
    torch.testing.assert_close(call(model, inputs).sample, scaled)
    assert attached(model).kappas[-1] == 0.5**5


def test_lora_on_the_skip_of_uvit_is_not_passed_over():
    peft = pytest.importorskip("peft")
    model, inputs = build("uvit")
    before = model(*inputs)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["skip_linear"], init_lora_weights=False))
    assert not torch.allclose(wrapped(*inputs), before)


def test_controlnet_residuals_are_scaled_with_the_skips():
    model, inputs = build("sd")
    with torch.no_grad():
        shapes = []

        def look(module, args, kwargs):
            shapes.extend(kwargs["res_hidden_states_tuple"])

        hooks = [block.register_forward_pre_hook(look, with_kwargs=True) for block in reversed(model.up_blocks)]
        call(model, inputs)
        for hook in hooks:
            hook.remove()
    order = [s for block in (shapes[3:], shapes[:3]) for s in block]
    residuals = tuple(torch.randn_like(s) for s in order)
    extra = {"down_block_additional_residuals": residuals, "mid_block_additional_residual": torch.zeros(2, 16, 4, 4)}
    handle = attach(model, lambda i, n: 1e-12)
    with torch.no_grad():
        without, with_them = call(model, inputs).sample, call(model, inputs | extra).sample
    torch.testing.assert_close(without, with_them, rtol=1e-4, atol=1e-4)
    handle.detach()
    with torch.no_grad():
        assert not torch.allclose(call(model, inputs).sample, call(model, inputs | extra).sample)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet2d", "sd", "guided", "uvit"])
def test_inductor(name):
    torch._dynamo.reset()
    model, inputs = build(name)
    attach(model, "cs", kappa=0.5, mutable=True)
    with torch.no_grad():
        eager = call(model, inputs)
        compiled = call(torch.compile(model, fullgraph=True), inputs)
    a, b = getattr(eager, "sample", eager), getattr(compiled, "sample", compiled)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compile_every_quick_class():
    for name in ("sdxl", "if", "unet3d", "svd", "unet1d", "smp", "hunyuan"):
        torch._dynamo.reset()
        model, inputs = build(name)
        attach(model, "cs", kappa=0.5)
        with torch.no_grad():
            eager = call(model, inputs)
            compiled = call(torch.compile(model, backend="aot_eager"), inputs)
        a, b = (getattr(out, "sample", out) for out in (eager, compiled))
        torch.testing.assert_close(a, b)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gpu_equals_cpu(dtype):
    from scalelong.nn import UViT

    net = UViT(8, 2, 1, 32, 6, 2)
    attach(net, "cs", kappa=0.5, mutable=True)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    expected = net(x, t)
    got = net.to("cuda", dtype)(x.to("cuda", dtype), t.cuda())
    torch.testing.assert_close(got.float().cpu(), expected, rtol=0.05, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet2d", "guided"])
def test_compiled_kernels_of_a_constant(name):
    """None more, but for skips that the plain net writes straight into the concatenation, which a factor forbids."""
    from torch._inductor import metrics

    counts = []
    for scaled in (False, True):
        torch._dynamo.reset()
        metrics.reset()
        model, inputs = build(name)
        if scaled:
            attach(model, "cs", kappa=0.5)
        with torch._inductor.utils.fresh_cache(), torch.no_grad():
            call(torch.compile(model, fullgraph=True), inputs)
        counts.append(metrics.generated_kernel_count)
    assert 0 < counts[1] <= counts[0] + (5 if name == "unet2d" else 0)
