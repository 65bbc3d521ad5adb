"""The models that the speed is measured on: their real widths, heads and token counts, few of their blocks."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cases
import torch
from cases import Case


@dataclass(frozen=True)
class Shape:
    """What is measured. heads, dim, text, image: of the attention that the text takes part in; cross: whether the text is
    only attended to, not asking itself. scale: VSF's. blocks: what is left of the model's depth."""
    case: Case
    heads: int
    dim: int
    text: int
    image: int
    cross: bool
    scale: float
    blocks: str


def _pooled(width: int) -> Any:
    return lambda length, seed: {"pooled_output": torch.zeros(1, width), "guidance": 3.5}


_SD35 = dict(input_size=None, pos_embed_max_size=192, num_patches=192**2, patch_size=2, in_channels=16, depth=38, num_blocks=3,
             adm_in_channels=2048, qk_norm="rms",
             context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 2432}})
_FLUX1 = dict(image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=3072,
              mlp_ratio=4.0, num_heads=24, depth=1, depth_single_blocks=2, axes_dim=[16, 56, 56], theta=10000, patch_size=2,
              qkv_bias=True, guidance_embed=True, txt_ids_dims=[])
_ZIMAGE = dict(image_model="lumina2", patch_size=2, in_channels=16, dim=3840, cap_feat_dim=2560, n_layers=2, n_refiner_layers=1,
               n_heads=30, n_kv_heads=30, qk_norm=True, axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512], rope_theta=256.0,
               ffn_dim_multiplier=8.0 / 3.0, z_image_modulation=True, time_scale=1000.0, pad_tokens_multiple=32)
_WAN = dict(image_model="wan2.1", model_type="t2v", patch_size=(1, 2, 2), in_dim=16, dim=5120, ffn_dim=13824, freq_dim=256,
            text_dim=4096, out_dim=16, num_heads=40, num_layers=1, cross_attn_norm=True)
_SDXL = dict(image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1, 1, 1], channel_mult=[1, 2, 4],
             transformer_depth=[0, 1, 2], transformer_depth_output=[0, 0, 1, 1, 2, 2], transformer_depth_middle=2,
             context_dim=2048, num_heads=-1, num_head_channels=64, use_spatial_transformer=True,
             use_linear_in_transformer=True, num_classes="sequential", adm_in_channels=2816)

SHAPES = {
    "flux1": Shape(Case("flux1", "Flux", _FLUX1, (16, 128, 128), 4096, options=_pooled(768)),
                   24, 128, 256, 4096, False, 1.5, "1 of 19 double, 2 of 38 single"),
    "sd35-large": Shape(Case("sd35-large", "SD3", _SD35, (16, 128, 128), 4096, options=_pooled(2048)),
                        38, 64, 333, 4096, False, 1.5, "3 of 38"),
    "z-image": Shape(Case("z-image", "ZImage", _ZIMAGE, (16, 128, 128), 2560),
                     30, 128, 96, 4096, False, 1.5, "2 of 30, 1 of 2 refiners"),
    "sdxl": Shape(Case("sdxl", "SDXL", _SDXL, (4, 128, 128), 2048, options=_pooled(1280)),
                  10, 64, 77, 4096, True, 2.0, "1 and 2 of 2 and 10 layers a transformer, 1 of 2 resnets a level"),
    "wan2.2": Shape(Case("wan2.2", "WAN21_T2V", _WAN, (16, 21, 60, 104), 4096),
                    40, 128, 512, 32760, True, 1.5, "1 of 40"),
    "wan2.1-1.3b": Shape(Case("wan2.1-1.3b", "WAN21_T2V", _WAN | dict(dim=1536, ffn_dim=8960, num_heads=12),
                              (16, 21, 60, 104), 4096),
                         12, 128, 512, 32760, True, 1.5, "1 of 30"),
}
"""By name. Text: a full T5 window where the family pads (Flux.1 schnell 256, SD3.5 77 + 256, Wan 512), else as many words as a
long prompt has. Pictures of 1024 x 1024; videos of 832 x 480 and 81 frames."""


def toy(shape: Shape) -> Shape:
    """A shape of a few tokens, to try the benchmark itself."""
    case = cases.BY_NAME["flux1"]
    return Shape(case, 2, 32, 12, 12, False, shape.scale, "toy")
