# ruff: noqa: E501  the zoo is a table
"""Tiny models of every supported class, with inputs and a hand-written oracle of their skips, deepest first."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Case:
    """make() gives (model, inputs); widths of the skips in the order of consumption; where their cat is called."""

    make: object
    widths: tuple
    inside: str = "up_blocks"
    slow: bool = False
    skip_operand: int = 1
    at_model: bool = False  # the concatenation is in the model's forward: what arrives is read behind the hook
    joins: tuple = ()  # then: the modules that get it, deepest first


def build(name):
    torch.manual_seed(0)
    model, inputs = ZOO[name].make()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() and not parameter.any():
                parameter.normal_(0, 0.05, generator=generator)
    return model.eval(), inputs


def tensor(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def unet2d(**options):
    def make():
        from diffusers import UNet2DModel

        base = {"sample_size": 16, "in_channels": 3, "out_channels": 3, "norm_num_groups": 4, "attention_head_dim": 4}
        base |= {"block_out_channels": (8, 16), "layers_per_block": 2}
        return UNet2DModel(**base | options), {"sample": tensor(2, 3, 16, 16), "timestep": torch.tensor([3, 500])}

    return make


def conditional(name="UNet2DConditionModel", sample=(2, 4, 8, 8), extra=None, context=(2, 5, 8), **options):
    def make():
        import diffusers

        base = {"in_channels": sample[1], "out_channels": 4, "block_out_channels": (8, 16), "layers_per_block": 1}
        base |= {"norm_num_groups": 4, "cross_attention_dim": 8}
        base |= {} if "num_attention_heads" in options else {"attention_head_dim": 4}
        inputs = {
            "sample": tensor(*sample),
            "timestep": torch.tensor([3, 500]),
            "encoder_hidden_states": tensor(*context),
        }
        return getattr(diffusers, name)(**base | options), inputs | (extra or {})

    return make


def sd():
    return conditional(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
    )  # fmt: skip


def sdxl():
    added = {"added_cond_kwargs": {"text_embeds": tensor(2, 6), "time_ids": torch.ones(2, 6)}}
    return conditional(
        extra=added, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=30,
    )  # fmt: skip


def deepfloyd():
    return conditional(
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        resnet_time_scale_shift="scale_shift", act_fn="gelu", only_cross_attention=True,
    )  # fmt: skip


def k_upscaler():
    return conditional(
        sample=(2, 4, 16, 16),
        down_block_types=("KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"),
        up_block_types=("KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"),
        block_out_channels=(32, 32, 64, 64), layers_per_block=4, mid_block_type=None, norm_num_groups=None, norm_eps=1e-5,
        resnet_time_scale_shift="scale_shift", time_embedding_type="fourier", conv_in_kernel=1, conv_out_kernel=1,
        act_fn="gelu",
    )  # fmt: skip


def dreamlite():
    def make():
        from diffusers.models.unets.unet_dreamlite import DreamLiteUNetModel

        down, up = "DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnNoSelfAttnUpBlock2D"
        model = DreamLiteUNetModel(
            down_block_types=(down, down), up_block_types=(up, up), block_out_channels=(8, 16), layers_per_block=1,
            norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2, ff_mult=2, use_linear_projection=True,
        )  # fmt: skip
        inputs = {"sample": tensor(2, 4, 8, 8), "timestep": torch.tensor([3, 500])}
        return model, inputs | {"encoder_hidden_states": tensor(2, 5, 8)}

    return make


def video(name, sample, **options):
    up, down = options.pop("up"), options.pop("down")
    return conditional(name, sample, down_block_types=down, up_block_types=up, **options)


def svd():
    def make():
        from diffusers import UNetSpatioTemporalConditionModel

        model = UNetSpatioTemporalConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), cross_attention_dim=8,
            num_attention_heads=(2, 2), addition_time_embed_dim=4, projection_class_embeddings_input_dim=12, num_frames=2,
        )  # fmt: skip
        inputs = {
            "sample": tensor(1, 2, 4, 8, 8),
            "timestep": torch.tensor(3),
            "encoder_hidden_states": tensor(1, 1, 8),
        }
        return model, inputs | {"added_time_ids": torch.ones(1, 3)}

    return make


def i2vgen():
    def make():
        from diffusers.models import I2VGenXLUNet

        model = I2VGenXLUNet(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            cross_attention_dim=8, attention_head_dim=8,
        )  # fmt: skip
        inputs = {"sample": tensor(1, 4, 2, 8, 8), "timestep": torch.tensor(3), "fps": torch.tensor([2])}
        inputs |= {"image_latents": tensor(1, 4, 2, 8, 8), "image_embeddings": tensor(1, 8)}
        return model, inputs | {"encoder_hidden_states": tensor(1, 3, 8)}

    return make


def unet1d(**options):
    def make():
        from diffusers import UNet1DModel

        base = {
            "sample_size": 32,
            "in_channels": 2,
            "out_channels": 2,
            "extra_in_channels": 32,
            "block_out_channels": (16, 32, 32),
        }
        return UNet1DModel(**base | options), {"sample": tensor(2, 2, 32), "timestep": torch.tensor([3, 500])}

    return make


def hunyuan():
    def make():
        from diffusers import HunyuanDiT2DModel

        model = HunyuanDiT2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2, sample_size=8, hidden_size=16,
            num_layers=8, mlp_ratio=2, cross_attention_dim=8, cross_attention_dim_t5=8, text_len=3, text_len_t5=4,
            pooled_projection_dim=8, norm_type="layer_norm",
        )  # fmt: skip
        inputs = {"hidden_states": tensor(2, 4, 16, 16), "timestep": torch.tensor([3.0, 500.0])}
        inputs |= {"encoder_hidden_states": tensor(2, 3, 8), "text_embedding_mask": torch.ones(2, 3)}
        inputs |= {"encoder_hidden_states_t5": tensor(2, 4, 8), "text_embedding_mask_t5": torch.ones(2, 4)}
        inputs |= {"image_meta_size": torch.ones(2, 6), "style": torch.zeros(2, dtype=torch.long)}
        return model, inputs | {"image_rotary_emb": [torch.ones(64, 8), torch.zeros(64, 8)]}

    return make


def cascade():
    def make():
        from diffusers.models import StableCascadeUNet

        model = StableCascadeUNet(
            in_channels=4, out_channels=4, timestep_ratio_embedding_dim=8, conditioning_dim=8, block_out_channels=(8, 16, 16),
            num_attention_heads=(2, 2, 2), down_num_layers_per_block=(1, 1, 1), up_num_layers_per_block=(1, 1, 1),
            down_blocks_repeat_mappers=(1, 1, 1), up_blocks_repeat_mappers=(1, 1, 1),
            block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock"),) * 3, dropout=0.0, clip_text_pooled_in_channels=6,
        )  # fmt: skip
        return model, {
            "sample": tensor(2, 4, 16, 16),
            "timestep_ratio": torch.ones(2),
            "clip_text_pooled": tensor(2, 1, 6),
        }

    return make


def kandinsky3():
    def make():
        from diffusers.models import Kandinsky3UNet

        model = Kandinsky3UNet(
            in_channels=4, time_embedding_dim=8, groups=4, attention_head_dim=4, layers_per_block=3,
            block_out_channels=(8, 16, 24), cross_attention_dim=8, encoder_hid_dim=8,
        )  # fmt: skip
        inputs = {"sample": tensor(2, 4, 16, 16), "timestep": torch.tensor([3, 500])}
        mask = torch.ones(2, 5)
        return model, inputs | {"encoder_hidden_states": tensor(2, 5, 8), "encoder_attention_mask": mask}

    return make


def smp_unet(**options):
    def make():
        import segmentation_models_pytorch as smp

        model = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(32, 16, 16, 16, 16), **options)
        return model, (tensor(2, 3, 32, 32),)

    return make


def smp_mit():
    import segmentation_models_pytorch as smp

    model = smp.Unet("mit_b0", encoder_weights=None, decoder_channels=(32, 16, 16, 8, 8))
    return model, (tensor(2, 3, 64, 64),)


def monai_diffusion():
    from monai.networks.nets import DiffusionModelUNet

    model = DiffusionModelUNet(
        spatial_dims=2, in_channels=1, out_channels=1, num_res_blocks=1, channels=(8, 16), attention_levels=(False, False),
        norm_num_groups=4, num_head_channels=4,
    )  # fmt: skip
    return model, (tensor(2, 1, 16, 16), torch.tensor([3, 500]))


def monai_unet(**options):
    def make():
        from monai.networks.nets import UNet

        return UNet(2, 1, 2, channels=(4, 8, 16), strides=(2, 2), **options), (tensor(2, 1, 16, 16),)

    return make


def monai_basic():
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, 1, 2, features=(4, 4, 8, 8, 16, 4)), (tensor(2, 1, 32, 32),)


def monai_dynamic():
    from monai.networks.nets import DynUNet

    model = DynUNet(2, 1, 2, kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2], filters=[4, 8, 16])
    return model, (tensor(2, 1, 16, 16),)


class ResBlock(nn.Module):
    """guided-diffusion's residual block, without the time step's scale and shift."""

    def __init__(self, width, out):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(8, out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(4, out), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x, emb):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class TimestepEmbedSequential(nn.Sequential):
    def forward(self, x, emb):
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


class GuidedDiffusion(nn.Module):
    """The forward of guided-diffusion's UNetModel: the concatenation is here, not in a block."""

    def __init__(self):
        super().__init__()
        conv, pool, up = nn.Conv2d, nn.AvgPool2d, nn.Upsample
        blocks = ([conv(3, 8, 3, padding=1)], [ResBlock(8, 8)], [pool(2)], [ResBlock(8, 16)])
        self.input_blocks = nn.ModuleList(TimestepEmbedSequential(*layers) for layers in blocks)
        self.middle_block = TimestepEmbedSequential(ResBlock(16, 16), ResBlock(16, 16))
        blocks = ([ResBlock(32, 16)], [ResBlock(24, 16), up(scale_factor=2.0)], [ResBlock(24, 8)], [ResBlock(16, 8)])
        self.output_blocks = nn.ModuleList(TimestepEmbedSequential(*layers) for layers in blocks)
        self.out = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x, emb):
        hs = []
        h = x
        for module in self.input_blocks:
            h = module(h, emb)
            hs.append(h)
        h = self.middle_block(h, emb)
        for module in self.output_blocks:
            h = module(torch.cat([h, hs.pop()], dim=1), emb)
        return self.out(h)


def guided():
    return GuidedDiffusion(), (tensor(2, 3, 16, 16), tensor(2, 8))


def uvit():
    from scalelong.nn import UViT

    net = UViT(8, 2, 1, embed_dim=32, depth=6, num_heads=2)
    return net, (tensor(2, 1, 8, 8), torch.tensor([3, 500]))


FLAT = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
ZOO = {
    "unet2d": Case(unet2d(down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D")), (16, 16, 8, 8, 8, 8)),
    "unet2d-ncsn": Case(unet2d(layers_per_block=1, down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D"), up_block_types=("AttnSkipUpBlock2D", "SkipUpBlock2D"), time_embedding_type="fourier", block_out_channels=(32, 64), norm_num_groups=32), (64, 32, 32, 32), slow=True),
    "unet2d-resnet": Case(unet2d(layers_per_block=1, down_block_types=("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"), up_block_types=("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D")), (16, 8, 8, 8), slow=True),
    "sd": Case(sd(), (16, 16, 8, 8, 8, 8)),
    "sdxl": Case(sdxl(), (16, 8, 8, 8)),
    "if": Case(deepfloyd(), (16, 8, 8, 8)),
    "k-upscaler": Case(k_upscaler(), (64, 32, 32)),
    "unet3d": Case(video("UNet3DConditionModel", (2, 4, 2, 8, 8), down=("CrossAttnDownBlock3D", "DownBlock3D"), up=("UpBlock3D", "CrossAttnUpBlock3D")), (16, 8, 8, 8)),
    "motion": Case(video("UNetMotionModel", (2, 4, 2, 8, 8), down=("CrossAttnDownBlockMotion", "DownBlockMotion"), up=("UpBlockMotion", "CrossAttnUpBlockMotion"), motion_num_attention_heads=2, num_attention_heads=2, context=(4, 5, 8)), (16, 8, 8, 8)),
    "svd": Case(svd(), (64, 32, 32, 32)),
    "i2vgen": Case(i2vgen(), (64, 32, 32, 32)),
    "unet1d": Case(unet1d(), (32, 32, 16)),
    "hunyuan": Case(hunyuan(), (16, 16, 16), inside="blocks"),
    "cascade": Case(cascade(), (16, 8), inside="up_blocks.1|up_blocks.2"),
    "kandinsky3": Case(kandinsky3(), (16, 8), at_model=True, joins=("up_blocks.1.resnets_in.0.resnet_blocks.0.group_norm.norm", "up_blocks.2.resnets_in.0.resnet_blocks.0.group_norm.norm")),
    "smp": Case(smp_unet(), (256, 128, 64, 64), inside="decoder.blocks"),
    "smp-mit": Case(smp_mit, (160, 64, 32), inside="decoder.blocks", slow=True),
    "smp-scse": Case(smp_unet(decoder_attention_type="scse"), (256, 128, 64, 64), inside="decoder.blocks", slow=True),
    "monai-diffusion": Case(monai_diffusion, (16, 8, 8, 8)),
    "monai-unet": Case(monai_unet(), (8, 4), inside="model", at_model=True, joins=("model.1.submodule.2", "model.2")),
    "monai-unet-res": Case(monai_unet(num_res_units=2), (8, 4), inside="model", at_model=True, joins=("model.1.submodule.2", "model.2"), slow=True),
    "monai-basic": Case(monai_basic, (8, 8, 4, 4), inside="upcat", skip_operand=0),
    "monai-dynamic": Case(monai_dynamic, (8, 4), inside="upsamples"),
    "dreamlite": Case(dreamlite(), (16, 8, 8, 8), slow=True),
    "guided": Case(guided, (16, 8, 8, 8), at_model=True, joins=tuple(f"output_blocks.{i}" for i in range(4))),
    "uvit": Case(uvit, (32, 32, 32), inside="out_blocks"),
}  # fmt: skip
