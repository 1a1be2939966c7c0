"""An attached adapter does what the adapter on explicit embeddings does, and leaves no trace when it goes."""

import copy
import gc

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from random_adapters import trained
from sur_adapter import Provenance, SURAdapter, SURAdapterBundle
from sur_adapter.integrations.diffusers import attach
from tiny_pipelines import FAMILIES, call, clip, trained_for

PROMPTS = {"prompt": "a red dog jumps over the fence", "negative_prompt": "ugly, blurry"}


def arguments(family):
    """Flux has a negative prompt only with its true guidance."""
    return PROMPTS | ({"true_cfg_scale": 3.0} if family == "flux" else {})


def embeddings(family, pipe, adapters=None):
    """The arguments that replace the prompts: raw states, and where adapters are given, adapted outside of any hook."""
    options = {"max_sequence_length": 24} if family in ("sd3", "flux") else {}
    if family == "flux":
        found = {}
        for prefix, prompt in (("", PROMPTS["prompt"]), ("negative_", PROMPTS["negative_prompt"])):
            states, pooled, _ = pipe.encode_prompt(prompt=prompt, prompt_2=None, **options)
            found |= {f"{prefix}prompt_embeds": states, f"{prefix}pooled_prompt_embeds": pooled}
    else:
        names = ["prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
        if family.startswith("sd1") or family == "sd2":
            options |= {"device": "cpu", "num_images_per_prompt": 1}
        if family == "sd3":
            options |= {"prompt_2": None, "prompt_3": None}
        result = pipe.encode_prompt(do_classifier_free_guidance=True, **PROMPTS, **options)
        found = dict(zip(names, result, strict=False))
    for name in ("prompt_embeds", "negative_prompt_embeds") if adapters else ():
        found[name] = adapted(family, found[name], adapters)
    return found


def adapted(family, states, adapters):
    """Cut the pipeline's states into those of its encoders, adapt each, and put them together again."""
    if family in ("sd15", "sd2"):
        return adapters["text_encoder"](states)
    if family == "flux":
        return adapters["text_encoder_2"](states)
    first, second = adapters["text_encoder"], adapters["text_encoder_2"]
    parts = [first(states[:, :77, :32].contiguous()), second(states[:, :77, 32:80].contiguous())]
    both = torch.cat(parts, -1)
    return both if family == "sdxl" else torch.cat([both, adapters["text_encoder_3"](states[:, 77:].contiguous())], 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_attach_equals_explicit_embeddings_and_detach_restores_every_bit(family):
    pipe, adapters = tiny.shared(family), trained_for(family)
    before = call(family, pipe, **arguments(family))
    with torch.no_grad():
        given = embeddings(family, pipe, adapters)
    true_cfg = {"true_cfg_scale": 3.0} if family == "flux" else {}
    explicit = call(family, pipe, **given, **true_cfg)
    handle = attach(pipe, adapters)
    attached = call(family, pipe, **arguments(family))
    options = {"max_sequence_length": 24} if family in ("sd3", "flux") else {}
    encoded = handle.encode(**PROMPTS, **options)
    assert sorted(encoded) == sorted(given)
    assert {name: (encoded[name] - given[name]).abs().max().item() for name in given} == dict.fromkeys(given, 0.0)
    by_encode = call(family, pipe, **encoded, **true_cfg)
    handle.detach()
    after = call(family, pipe, **arguments(family))
    assert np.abs(attached - before).max() > 1e-3, "the adapter does nothing, so nothing was compared"
    assert np.abs(attached - explicit).max() == 0.0
    assert np.abs(by_encode - explicit).max() == 0.0
    assert (after == before).all()
    for name in tiny.SLOTS[family]:
        encoder = getattr(pipe, name)
        assert not encoder._forward_hooks
        assert not encoder._forward_pre_hooks
        assert "_sur_adapter_hook" not in encoder.__dict__


@pytest.mark.parametrize("family", FAMILIES)
def test_the_other_prompts_of_a_batch_never_change_a_result(family):
    pipe = tiny.shared(family)
    options = {"max_sequence_length": 24} if family in ("sd3", "flux") else {}
    prompts = ["a red dog", "two blue birds in the sky at night, photo, best quality", "a boat"]
    with attach(pipe, trained_for(family)) as handle:
        together = handle.encode(prompts, guidance=False, **options)
        for number, prompt in enumerate(prompts):
            alone = handle.encode(prompt, guidance=False, **options)
            for name, value in alone.items():
                torch.testing.assert_close(together[name][number], value[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_adapter_and_scale_zero_change_no_bit(family):
    pipe = tiny.shared(family)
    before = call(family, pipe, prompt="a red dog")
    fresh = {slot: SURAdapter(width, num_heads=4, ff_dim=32) for slot, width in tiny.SLOTS[family].items()}
    with attach(pipe, SURAdapterBundle(fresh)):
        assert (call(family, pipe, prompt="a red dog") == before).all()
    with attach(pipe, trained_for(family), scale=0.0) as handle:
        assert (call(family, pipe, prompt="a red dog") == before).all()
        handle.set_scale(0.5)
        assert (call(family, pipe, prompt="a red dog") != before).any()


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_the_negative_prompt_is_spared_on_request(family):
    pipe, adapters = tiny.shared(family), trained_for(family)
    options = {"max_sequence_length": 24} if family == "sd3" else {}
    with torch.no_grad():
        raw, changed = embeddings(family, pipe), embeddings(family, pipe, adapters)
    with attach(pipe, adapters) as handle:
        spared = handle.encode(**PROMPTS, negative="skip", **options)
        assert handle.encode(**PROMPTS, **options)["negative_prompt_embeds"].equal(changed["negative_prompt_embeds"])
    assert spared["prompt_embeds"].equal(changed["prompt_embeds"])
    assert spared["negative_prompt_embeds"].equal(raw["negative_prompt_embeds"])
    assert not spared["negative_prompt_embeds"].equal(changed["negative_prompt_embeds"])


def test_flux_spares_its_negative_prompt_too():
    pipe, adapters = tiny.shared("flux"), trained_for("flux")
    with torch.no_grad():
        raw = embeddings("flux", pipe)
    with attach(pipe, adapters) as handle:
        spared = handle.encode(**PROMPTS, negative="skip", max_sequence_length=24)
        assert "negative_prompt_embeds" not in handle.encode("a dog", max_sequence_length=24)
    assert spared["negative_prompt_embeds"].equal(raw["negative_prompt_embeds"])


def test_sdxl_without_a_negative_prompt_gets_zeros():
    pipe = tiny.shared("sdxl")
    with attach(pipe, trained_for("sdxl")) as handle:
        found = handle.encode("a dog")
        assert not found["negative_prompt_embeds"].any()
        assert not found["negative_pooled_prompt_embeds"].any()
        images = call("sdxl", pipe, prompt="a dog")
    assert np.abs(call("sdxl", pipe, **found) - images).max() == 0.0


def test_pooled_states_are_left_alone():
    pipe = tiny.shared("sdxl")
    raw = embeddings("sdxl", pipe)
    with attach(pipe, trained_for("sdxl")):
        assert embeddings("sdxl", pipe)["pooled_prompt_embeds"].equal(raw["pooled_prompt_embeds"])


def test_each_scale_is_that_of_the_adapter_at_that_strength():
    pipe, adapter = tiny.shared("sd15"), trained(32)
    raw = embeddings("sd15", pipe)["prompt_embeds"]
    handle = attach(pipe, adapter)
    for scale in (0.1, 0.9, None, 0.25):
        handle.set_scale(scale)
        found = embeddings("sd15", pipe)["prompt_embeds"]
        assert found.equal(adapter(raw, scale=scale))
        assert handle.scales == {"text_encoder": 0.5 if scale is None else scale}
    adapter.scale = 0.75
    handle.set_scale(None)
    assert handle.scales == {"text_encoder": 0.75}
    handle.detach()


def test_several_adapters_each_add_their_own_change_and_go_in_any_order():
    pipe, one, two = tiny.shared("sd15"), trained(32, seed=1), trained(32, seed=2, mixing="none")
    raw = embeddings("sd15", pipe)["prompt_embeds"]
    first, second = attach(pipe, one, scale=0.3), attach(pipe, two, scale=0.6)
    both = raw + (one(raw, scale=0.3) - raw) + (two(raw, scale=0.6) - raw)
    torch.testing.assert_close(embeddings("sd15", pipe)["prompt_embeds"], both)
    second.set_scale(0.0)
    assert embeddings("sd15", pipe)["prompt_embeds"].equal(one(raw, scale=0.3))
    second.set_scale(0.6)
    first.detach()
    assert embeddings("sd15", pipe)["prompt_embeds"].equal(two(raw, scale=0.6))
    with pytest.raises(ValueError, match="detached"):
        first.encode("a dog")
    first.detach()  # a second time does nothing
    second.detach()
    assert embeddings("sd15", pipe)["prompt_embeds"].equal(raw)


def test_scales_by_slot():
    pipe = tiny.shared("sdxl")
    raw = embeddings("sdxl", pipe)["prompt_embeds"]
    with attach(pipe, trained_for("sdxl")) as handle:
        handle.set_scale({"text_encoder": 0.0})
        found = embeddings("sdxl", pipe)["prompt_embeds"]
        with pytest.raises(ValueError, match="no adapter is attached to 'text_encoder_3' here"):
            handle.set_scale({"text_encoder_3": 1.0})
    assert found[..., :32].equal(raw[..., :32])
    assert not found[..., 32:].equal(raw[..., 32:])


def test_an_exception_inside_the_context_detaches():
    pipe = tiny.shared("sd15")
    with pytest.raises(RuntimeError), attach(pipe, trained(32)):
        raise RuntimeError
    assert not pipe.text_encoder._forward_hooks


def test_one_adapter_finds_its_slot_by_provenance_then_by_width():
    pipe = tiny.shared("sdxl")
    with attach(pipe, trained(48)) as handle:
        assert list(handle.adapters) == ["text_encoder_2"]
    placed = trained(32, provenance=Provenance(encoder_slot="text_encoder", encoder_field="hidden_states[-2]"))
    with attach(pipe, placed) as handle:
        assert list(handle.adapters) == ["text_encoder"]


def test_the_adapter_is_in_evaluation_mode_while_attached():
    pipe, adapter = tiny.shared("sd15"), trained(32, dropout=0.5).train()
    with attach(pipe, adapter):
        assert not adapter.training
        assert embeddings("sd15", pipe)["prompt_embeds"].equal(embeddings("sd15", pipe)["prompt_embeds"])
    assert adapter.training


def test_images_of_one_prompt_and_another_pipeline_on_the_same_encoder():
    from diffusers import StableDiffusionImg2ImgPipeline

    pipe = tiny.build("sd15")
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    images = call("sd15", pipe, prompt="a dog", num_images_per_prompt=2)
    image = torch.zeros(1, 3, 16, 16)
    options = {"prompt": "a dog", "image": image, "strength": 1.0, "num_inference_steps": 2, "output_type": "np"}
    before = other(generator=torch.Generator().manual_seed(0), **options).images
    with attach(pipe, trained(32)):
        assert np.abs(call("sd15", pipe, prompt="a dog", num_images_per_prompt=2) - images).max() > 1e-3
        assert np.abs(other(generator=torch.Generator().manual_seed(0), **options).images - before).max() > 1e-3
    assert (other(generator=torch.Generator().manual_seed(0), **options).images == before).all()


@pytest.mark.parametrize("name", ["StableDiffusionInpaintPipeline", "StableDiffusionControlNetPipeline"])
def test_other_forms_of_a_family_read_the_same_slots(name):
    import diffusers

    pipe = tiny.build("sd15")
    extra = {}
    if "ControlNet" in name:
        extra["controlnet"] = diffusers.ControlNetModel.from_unet(pipe.unet, conditioning_channels=3)
    other = getattr(diffusers, name).from_pipe(pipe, **extra)
    raw, adapter = embeddings("sd15", pipe)["prompt_embeds"], trained(32)
    with attach(other, adapter) as handle:
        assert handle.encode(**PROMPTS)["prompt_embeds"].equal(adapter(raw))


def test_save_pretrained_writes_no_adapter(tmp_path):
    pipe = tiny.build("sd15")
    pipe.save_pretrained(tmp_path / "before")
    with attach(pipe, trained(32)):
        pipe.save_pretrained(tmp_path / "attached")
    files = {path.relative_to(tmp_path / "before") for path in (tmp_path / "before").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "attached") for path in (tmp_path / "attached").rglob("*.*")}
    for path in files:
        assert (tmp_path / "before" / path).read_bytes() == (tmp_path / "attached" / path).read_bytes(), path


def test_another_pipeline_through_slots():
    class Custom:
        def __init__(self):
            self.prompt_reader, self.text_encoder = clip(32), clip(48)
            self.components = {"prompt_reader": self.prompt_reader, "text_encoder": self.text_encoder}

    pipe, adapter = Custom(), trained(48)
    ids = torch.tensor([[0, 322, 522, 517, 1]])
    with pytest.raises(ValueError, match=r"Custom is none of .*text_encoder \(CLIPTextModel, width 48\).*slots="):
        attach(pipe, adapter)
    raw = pipe.text_encoder(ids, output_hidden_states=True)
    with attach(pipe, adapter, slots={"text_encoder": "last"}) as handle:
        found = pipe.text_encoder(ids)
        assert found.last_hidden_state.equal(adapter(raw.last_hidden_state))
        assert found.pooler_output.equal(raw.pooler_output)
        with pytest.raises(ValueError, match=r"encode knows SD1\.x, SD2, SDXL, SD3 and Flux, not Custom"):
            handle.encode("a dog")
    with attach(pipe, adapter, slots={"text_encoder": "hidden_states[-3]"}):
        found = pipe.text_encoder(ids, output_hidden_states=True)
        assert found.hidden_states[-3].equal(adapter(raw.hidden_states[-3]))
        assert found.last_hidden_state.equal(raw.last_hidden_state)
        assert pipe.text_encoder(ids).hidden_states is None
    with attach(pipe, trained(32), slots={"prompt_reader": "last"}):
        assert not pipe.prompt_reader(ids).last_hidden_state.equal(clip(32)(ids).last_hidden_state)


def test_the_encoders_own_output_is_never_written_into():
    encoder, adapter = clip(48), trained(48)
    pipe = type("Pipe", (), {"text_encoder": encoder, "components": {"text_encoder": encoder}})()
    kept = []
    encoder.register_forward_hook(lambda module, args, output: kept.append(output))
    with attach(pipe, adapter, slots={"text_encoder": "last"}):
        found = encoder(torch.tensor([[0, 322, 1]]))
    assert found is not kept[0]
    assert kept[0].last_hidden_state.equal(clip(48)(torch.tensor([[0, 322, 1]])).last_hidden_state)


def test_a_deep_copy_has_its_own_attachment():
    pipe = tiny.build("sd15")
    raw = embeddings("sd15", pipe)["prompt_embeds"]
    handle = attach(pipe, trained(32))
    other = copy.deepcopy(pipe.text_encoder)
    handle.detach()
    ids = pipe.tokenizer(PROMPTS["prompt"], padding="max_length", return_tensors="pt").input_ids
    assert not other(ids).last_hidden_state.equal(raw)
    assert pipe.text_encoder(ids).last_hidden_state.equal(raw)


def test_padding_is_masked_where_the_adapter_says_so():
    pipe, adapter = tiny.shared("sd2"), trained(48, mask_padding=True)
    raw = embeddings("sd2", pipe)["prompt_embeds"]
    ids = pipe.tokenizer(PROMPTS["prompt"]).input_ids
    mask = torch.arange(77)[None] < len(ids)
    with attach(pipe, adapter):
        found = embeddings("sd2", pipe)["prompt_embeds"]
    assert found.equal(adapter(raw, mask=mask))
    assert not found.equal(adapter(raw))


def test_a_half_precision_pipeline_takes_a_float32_adapter():
    pipe, adapter = tiny.build("sd15"), trained(32)
    pipe.text_encoder.to(torch.bfloat16)
    ids = torch.tensor([[0, 322, 522, 1]])
    raw = pipe.text_encoder(ids).last_hidden_state
    with attach(pipe, adapter):
        found = pipe.text_encoder(ids).last_hidden_state
    assert found.dtype == torch.bfloat16
    assert found.equal(adapter(raw.float()).bfloat16())


def test_from_a_folder_in_the_encoders_dtype(tmp_path):
    pipe, adapters = tiny.shared("sdxl"), trained_for("sdxl")
    adapters.half().save_pretrained(tmp_path / "bundle")
    with torch.no_grad():
        expected = embeddings("sdxl", pipe, adapters.float())
    for folder in (tmp_path / "bundle", str(tmp_path / "bundle")):
        with attach(pipe, folder) as handle:
            assert {one.fc.weight.dtype for one in handle.adapters.values()} == {torch.float32}
            assert embeddings("sdxl", pipe)["prompt_embeds"].equal(expected["prompt_embeds"])
    with attach(pipe, tmp_path / "bundle" / "text_encoder_2") as handle:
        assert list(handle.adapters) == ["text_encoder_2"]


class TestBadInput:
    def test_width_mismatch_names_both(self):
        with pytest.raises(
            ValueError, match=r"expects text states of width 64, and text_encoder \(CLIPTextModel\) gives 32"
        ):
            attach(tiny.shared("sd15"), trained(64))
        with pytest.raises(ValueError, match="width 64; text_encoder gives 32, text_encoder_2 gives 48"):
            attach(tiny.shared("sdxl"), trained(64))

    def test_wrong_slot(self):
        with pytest.raises(
            ValueError, match="for the slot 'text_encoder_2'; StableDiffusionPipeline reads text states"
        ):
            attach(tiny.shared("sd15"), SURAdapterBundle({"text_encoder_2": trained(32)}))
        with pytest.raises(ValueError, match=r"for the slot 'text_encoder'; FluxPipeline reads .* from text_encoder_2"):
            attach(tiny.shared("flux"), trained(32, provenance=Provenance(encoder_slot="text_encoder")))
        with pytest.raises(ValueError, match="no text encoder 'encoder'"):
            attach(tiny.shared("sd15"), trained(32), slots={"encoder": "last"})
        with pytest.raises(ValueError, match="the output of text_encoder is 'first'"):
            attach(tiny.shared("sd15"), trained(32), slots={"text_encoder": "first"})

    def test_another_output_than_trained_on(self):
        pipe, adapter = tiny.shared("sdxl"), trained(32, provenance=Provenance(encoder_field="last"))
        with pytest.raises(ValueError, match=r"trained on the output 'last'.*reads 'hidden_states\[-2\]'"):
            attach(pipe, adapter)
        attach(pipe, adapter, slots={"text_encoder": "hidden_states[-2]"}).detach()

    def test_base_model_mismatch_warns_or_is_an_error(self):
        pipe = tiny.build("sd15")
        pipe.register_to_config(_name_or_path="/models/Stable-Diffusion-v1-5/")
        foreign = trained(32, provenance=Provenance(base_model_id="org/realistic-vision"))
        with pytest.warns(UserWarning, match=r"trained on 'org/realistic-vision'.*'/models/Stable-Diffusion-v1-5/'"):
            attach(pipe, foreign).detach()
        with pytest.raises(ValueError, match="org/realistic-vision"):
            attach(pipe, foreign, strict_base=True)
        assert not pipe.text_encoder._forward_hooks
        attach(pipe, trained(32, provenance=Provenance(base_model_id="org/stable-diffusion-v1-5"))).detach()

    @pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf")])
    def test_scale(self, scale):
        pipe = tiny.shared("sd15")
        with pytest.raises(ValueError, match=f"scale is {scale}; it must be finite"):
            attach(pipe, trained(32), scale=scale)
        with attach(pipe, trained(32)) as handle:
            with pytest.raises(ValueError, match="it must be finite"):
                handle.set_scale(scale)
            assert handle.scales == {"text_encoder": 0.5}
            with pytest.warns(UserWarning, match="scale is 1.5"):
                handle.set_scale(1.5)

    def test_twice(self):
        pipe, adapter = tiny.shared("sd15"), trained(32)
        with attach(pipe, adapter):
            with pytest.raises(ValueError, match="attached to text_encoder already"):
                attach(pipe, adapter)
            with pytest.raises(ValueError, match="has an adapter on its output 'last'"):
                attach(pipe, trained(32), slots={"text_encoder": "hidden_states[-2]"})

    @pytest.mark.parametrize("prompt", [[], "", "  ", ["a dog", ""]])
    def test_empty_prompts(self, prompt):
        with (
            attach(tiny.shared("sd15"), trained(32)) as handle,
            pytest.raises(ValueError, match=r"there is no prompt|is empty"),
        ):
            handle.encode(prompt)

    def test_prompts_that_are_no_strings_or_of_another_number(self):
        with attach(tiny.shared("sd15"), trained(32)) as handle:
            with pytest.raises(TypeError, match="prompt 2 is a int"):
                handle.encode(["a dog", 3])
            with pytest.raises(ValueError, match="3 negative prompts for 2 prompts"):
                handle.encode(["a dog", "a cat"], ["x", "y", "z"])

    @pytest.mark.parametrize(
        ("family", "options", "message"),
        [
            ("sd15", {"negative": "none"}, "negative is 'none'"),
            ("sd15", {"long": "yes"}, "long is 'yes'"),
            ("sd15", {"max_sequence_length": 24}, "max_sequence_length is for SD3 and Flux"),
            ("sd15", {"clip_skip": -1}, "clip_skip is -1"),
            ("flux", {"clip_skip": 1}, "None for Flux"),
            ("sd3", {"long": "chunk"}, "raise max_sequence_length"),
        ],
    )
    def test_options_that_do_not_fit(self, family, options, message):
        with attach(tiny.shared(family), trained_for(family)) as handle, pytest.raises(ValueError, match=message):
            handle.encode("a dog", **options)

    def test_no_adapter_and_no_mask(self):
        with pytest.raises(TypeError, match="not Linear"):
            attach(tiny.shared("sd15"), torch.nn.Linear(2, 2))
        encoder = clip(48)
        pipe = type("Pipe", (), {"text_encoder": encoder, "components": {"text_encoder": encoder}})()
        with pytest.raises(ValueError, match="masks the padding, and Pipe has no tokenizer for text_encoder"):
            attach(pipe, trained(48, mask_padding=True), slots={"text_encoder": "last"})

    def test_an_encoder_that_returns_a_tuple(self):
        encoder = clip(48)
        pipe = type("Pipe", (), {"text_encoder": encoder, "components": {"text_encoder": encoder}})()
        with (
            attach(pipe, trained(48), slots={"text_encoder": "last"}),
            pytest.raises(TypeError, match="return_dict"),
        ):
            encoder(torch.tensor([[0, 1]]), return_dict=False)

    def test_a_failed_attach_leaves_nothing(self):
        pipe = tiny.shared("sdxl")
        with pytest.raises(ValueError, match="text_encoder_2"):
            attach(pipe, SURAdapterBundle({"text_encoder": trained(32), "text_encoder_2": trained(64)}))
        assert not pipe.text_encoder._forward_hooks


def test_nothing_keeps_a_dropped_pipeline_alive():
    import weakref

    pipe = tiny.build("sd15")
    handle = attach(pipe, trained(32))
    alive = weakref.ref(pipe.text_encoder)
    handle.detach()
    del pipe, handle
    gc.collect()
    assert alive() is None


def test_a_pipeline_without_one_of_its_encoders():
    pipe = tiny.build("sd3")
    pipe.register_modules(text_encoder_3=None, tokenizer_3=None)
    two = {slot: trained(width) for slot, width in (("text_encoder", 32), ("text_encoder_2", 48))}
    with attach(pipe, SURAdapterBundle(two)) as handle:
        encoded = handle.encode("a dog", max_sequence_length=24)["prompt_embeds"]
    assert encoded[0, :77, :80].any()
    assert not encoded[0, 77:].any(), "the pipeline puts zeros where T5 would be"
