"""Random pipelines of the five families, of the real classes and a few thousand parameters, and how to call them."""

import functools
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from random_adapters import trained
from sur_adapter import SURAdapterBundle
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

FAMILIES = ("sd15", "sd2", "sdxl", "sd3", "flux")
SLOTS = {
    "sd15": {"text_encoder": 32},
    "sd2": {"text_encoder": 48},
    "sdxl": {"text_encoder": 32, "text_encoder_2": 48},
    "sd3": {"text_encoder": 32, "text_encoder_2": 48, "text_encoder_3": 80},
    "flux": {"text_encoder_2": 80},
}
FOLDER = Path(__file__).parent / "tokenizers"


def clip_tokenizer(pad="<|endoftext|>"):
    names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": pad}
    file = str(FOLDER / "clip.json")
    return PreTrainedTokenizerFast(
        tokenizer_file=file, model_max_length=77, clean_up_tokenization_spaces=False, **names
    )


def t5_tokenizer():
    names = {"eos_token": "</s>", "pad_token": "<pad>"}
    file = str(FOLDER / "t5.json")
    return PreTrainedTokenizerFast(
        tokenizer_file=file, model_max_length=512, clean_up_tokenization_spaces=False, **names
    )


def clip(width, *, projected=False, layers=4):
    torch.manual_seed(width)
    config = CLIPTextConfig(
        vocab_size=613,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        projection_dim=24,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5(width):
    torch.manual_seed(width)
    config = T5Config(vocab_size=613, d_model=width, d_ff=width, d_kv=8, num_layers=2, num_heads=2)
    return T5EncoderModel(config).eval()


def vae(channels=4):
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=channels,
        norm_num_groups=4,
        shift_factor=0.0,
        scaling_factor=1.0,
        use_quant_conv=channels == 4,
        use_post_quant_conv=channels == 4,
    ).eval()


def unet(width, **options):
    torch.manual_seed(4)
    return UNet2DConditionModel(
        block_out_channels=(16, 16),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=width,
        norm_num_groups=4,
        **options,
    ).eval()


def build(family):
    """A fresh pipeline; the same weights each time."""
    pipe = {"sd15": _sd15, "sd2": _sd2, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux}[family]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _sd15():
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(
        vae(),
        clip(32),
        clip_tokenizer(),
        unet(32),
        DDIMScheduler(clip_sample=False, steps_offset=1),
        image_encoder=None,
        **parts,
    )


def _sd2():
    """Another width, padding with '!' (token 2 here) and the v target, as SD2."""
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type="v_prediction")
    return StableDiffusionPipeline(
        vae(), clip(48), clip_tokenizer("!"), unet(48, use_linear_projection=True), scheduler, **parts
    )


def _sdxl():
    options = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "use_linear_projection": True}
    denoiser = unet(80, projection_class_embeddings_input_dim=24 + 6 * 8, **options)
    encoders = (clip(32), clip(48, projected=True))
    return StableDiffusionXLPipeline(
        vae(),
        *encoders,
        clip_tokenizer(),
        clip_tokenizer("!"),
        denoiser,
        DDIMScheduler(steps_offset=1),
        add_watermarker=False,
    )


def _sd3():
    torch.manual_seed(5)
    denoiser = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=80,
        pooled_projection_dim=48,
        out_channels=4,
    ).eval()
    return StableDiffusion3Pipeline(
        denoiser,
        FlowMatchEulerDiscreteScheduler(),
        vae(),
        clip(32, projected=True),
        clip_tokenizer(),
        clip(48, projected=True),
        clip_tokenizer("!"),
        t5(80),
        t5_tokenizer(),
    )


def _flux():
    torch.manual_seed(6)
    denoiser = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=80,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    ).eval()
    return FluxPipeline(
        FlowMatchEulerDiscreteScheduler(), vae(), clip(32), clip_tokenizer(), t5(80), t5_tokenizer(), denoiser
    )


@functools.cache
def shared(family):
    """One pipeline a process, for tests that leave it as it was."""
    return build(family)


def call(family, pipe, **arguments):
    """Two steps of generation; the image as an array, the same for the same arguments."""
    options = {"height": 16, "width": 16, "num_inference_steps": 2, "output_type": "np"}
    options["guidance_scale"] = 3.0
    if family in ("sd3", "flux"):
        options["max_sequence_length"] = 24
    return pipe(generator=torch.Generator().manual_seed(0), **(options | arguments)).images


def trained_for(family):
    """An adapter for each slot of a family."""
    return SURAdapterBundle({slot: trained(width, seed=width) for slot, width in SLOTS[family].items()})


def add_lora(encoder):
    """A LoRA as PEFT injects it; what diffusers' load_lora_weights does too, whose file handling is not at stake."""
    from peft import LoraConfig, inject_adapter_in_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        inject_adapter_in_model(config, encoder, "style")


def switch_lora(encoder, on):
    """Let the LoRA act or not."""
    for module in encoder.modules():
        if hasattr(module, "enable_adapters") and hasattr(module, "scaling"):
            module.enable_adapters(on)


def remove_lora(encoder):
    """As diffusers' unload_lora_weights."""
    from diffusers.utils.peft_utils import recurse_remove_peft_layers

    recurse_remove_peft_layers(encoder)
    del encoder.peft_config
