"""An attachment beside LoRA, accelerate's offloading and torch.compile."""

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from random_adapters import trained
from sur_adapter import SURAdapterBundle
from sur_adapter.integrations.diffusers import attach
from tiny_pipelines import FAMILIES, SLOTS, call, trained_for

ARGUMENTS = {"prompt": "a red dog", "negative_prompt": "ugly"}


def states(pipe, prompt="a red dog"):
    with torch.no_grad():
        return pipe.encode_prompt(prompt, "cpu", 1, False)[0]


@pytest.mark.parametrize("first", ["lora", "adapter"])
def test_a_lora_on_the_text_encoder(first):
    pipe, adapter = tiny.build("sd15"), trained(32)
    plain = states(pipe)
    if first == "lora":
        tiny.add_lora(pipe.text_encoder)
        handle = attach(pipe, adapter)
    else:
        handle = attach(pipe, adapter)
        tiny.add_lora(pipe.text_encoder)
    both = states(pipe)
    handle.set_scale(0.0)
    with_lora = states(pipe)
    handle.set_scale(None)
    assert not with_lora.equal(plain)
    assert both.equal(adapter(with_lora))
    tiny.switch_lora(pipe.text_encoder, False)
    assert states(pipe).equal(adapter(plain))
    tiny.switch_lora(pipe.text_encoder, True)
    handle.detach()
    assert states(pipe).equal(with_lora)
    handle = attach(pipe, adapter)
    tiny.remove_lora(pipe.text_encoder)
    assert states(pipe).equal(adapter(plain))
    handle.detach()
    assert states(pipe).equal(plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_offloading_by_model(family):
    pipe, adapters = tiny.build(family), trained_for(family)
    handle = attach(pipe, adapters)
    expected = call(family, pipe, prompt="a red dog")
    pipe.enable_model_cpu_offload(device="cpu")
    assert np.abs(call(family, pipe, prompt="a red dog") - expected).max() == 0.0
    options = {"max_sequence_length": 24} if family in ("sd3", "flux") else {}
    encoded = handle.encode("a red dog", guidance=family != "flux", **options)
    assert np.abs(call(family, pipe, **encoded) - expected).max() == 0.0
    handle.detach()
    with attach(pipe, adapters):
        assert np.abs(call(family, pipe, prompt="a red dog") - expected).max() == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_hooks_that_move_an_encoder_layer_by_layer(family):
    from accelerate import cpu_offload

    pipe, adapters = tiny.build(family), trained_for(family)
    ids = torch.tensor([[0, 322, 522, 517, 1]])

    def read(encoder):
        output = encoder(ids, output_hidden_states=True)
        early = family == "sdxl" or (family == "sd3" and slot != "text_encoder_3")
        return output.hidden_states[-2] if early else output.last_hidden_state

    for slot, adapter in adapters.items():
        encoder = getattr(pipe, slot)
        with torch.no_grad():
            raw = read(encoder)
            handle = attach(pipe, SURAdapterBundle({slot: adapter}))
            cpu_offload(encoder, execution_device="cpu", offload_buffers=True)  # between calls the weights are nowhere
            assert encoder.get_input_embeddings().weight.device.type == "meta"
            assert read(encoder).equal(adapter(raw))
            handle.detach()
            with attach(pipe, SURAdapterBundle({slot: adapter})):
                assert read(encoder).equal(adapter(raw))
            assert read(encoder).equal(raw)


@pytest.fixture
def compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("order", ["attach first", "compile first", "in place first", "attach, then in place"])
@pytest.mark.usefixtures("compiler")
def test_a_compiled_text_encoder(order):
    pipe, adapter = tiny.build("sd15"), trained(32, depth=1)
    pipe.text_encoder = tiny.clip(32, layers=1)
    plain = states(pipe)
    expected = adapter(plain)

    def compile_it():
        if "in place" in order:
            pipe.text_encoder.compile(backend="aot_eager")
        else:
            pipe.text_encoder = torch.compile(pipe.text_encoder, backend="aot_eager")
        torch.testing.assert_close(states(pipe), expected if "attach" in order else plain, atol=1e-5, rtol=0)

    if order.startswith("attach"):
        handle = attach(pipe, adapter)
        compile_it()
    else:
        compile_it()
        handle = attach(pipe, adapter)
    torch.testing.assert_close(states(pipe), expected, atol=1e-5, rtol=0)
    handle.set_scale(0.25)
    torch.testing.assert_close(states(pipe), adapter(plain, scale=0.25), atol=1e-5, rtol=0)
    handle.set_scale(0.0)
    torch.testing.assert_close(states(pipe), plain, atol=1e-5, rtol=0)
    handle.set_scale(None)
    torch.testing.assert_close(states(pipe), expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="attached to text_encoder already"):
        attach(pipe, adapter)
    handle.detach()
    torch.testing.assert_close(states(pipe), plain, atol=1e-5, rtol=0)
    for module in (pipe.text_encoder, getattr(pipe.text_encoder, "_orig_mod", pipe.text_encoder)):
        assert "_sur_adapter_hook" not in module.__dict__
    with attach(pipe, adapter):
        torch.testing.assert_close(states(pipe), expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("compiler")
def test_hidden_states_of_a_compiled_encoder():
    pipe, adapters = tiny.build("sdxl"), trained_for("sdxl")
    with attach(pipe, adapters) as handle:
        expected = handle.encode("a red dog", guidance=False)
        skipped = handle.encode("a red dog", guidance=False, clip_skip=1)
        # torch 2.7 breaks the graph at the tuple of states
        whole = torch.torch_version.TorchVersion(torch.__version__) >= "2.13"
        pipe.text_encoder_2 = torch.compile(pipe.text_encoder_2, backend="aot_eager", fullgraph=whole)
        for options, wanted in (({}, expected), ({"clip_skip": 1}, skipped)):
            found = handle.encode("a red dog", guidance=False, **options)
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux"])
@pytest.mark.usefixtures("compiler")
def test_compiled_by_inductor(family):
    pipe, adapters = tiny.build(family), trained_for(family)
    with attach(pipe, adapters):
        expected = call(family, pipe, **ARGUMENTS)
        for slot in SLOTS[family]:
            setattr(pipe, slot, torch.compile(getattr(pipe, slot)))
        assert np.abs(call(family, pipe, **ARGUMENTS) - expected).max() < 1e-3
