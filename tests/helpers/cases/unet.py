"""SD 1.x and 2.x, SDXL and other UNets (comfy/ldm/modules/diffusionmodules/openaimodel.py).

The tests' prompts and negatives have 10, 14, 19 and 32 tokens together; most cases have just as many in a level's image.
"""
from __future__ import annotations

from typing import Any

import torch
from within import text_attention

from cases import NO_TEXT_QUERIES, Case

_UNET = dict(image_size=32, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=[1, 1], channel_mult=[1, 2],
             transformer_depth=[1, 2], transformer_depth_output=[1, 1, 2, 2], transformer_depth_middle=1, context_dim=24,
             num_heads=-1, num_head_channels=16, use_spatial_transformer=True)
_SD1 = _UNET | dict(use_linear_in_transformer=False, num_heads=2, num_head_channels=-1)
_SD2 = _UNET | dict(use_linear_in_transformer=True)
_SDXL = _SD2 | dict(num_classes="sequential", adm_in_channels=32 + 6 * 256, transformer_depth=[0, 1],
                    transformer_depth_output=[0, 0, 1, 1])
_KOALA = _SDXL | dict(transformer_depth_middle=-1)
_UPSCALER = _SD1 | dict(in_channels=7, num_classes=1000, disable_self_attentions=[True, False])


def _pooled(length: int, seed: int) -> dict[str, Any]:
    return {"pooled_output": torch.randn(1, 32, generator=torch.Generator().manual_seed(seed + 1000))}


def _is_text(name: str) -> bool:
    return name.endswith("attn2")


def _is_text_of_upscaler(name: str) -> bool:
    """At the first level, what is self-attention elsewhere is to the text too: three blocks of this size."""
    return _is_text(name) or name.endswith("attn1") and name.startswith(("input_blocks.1.", "output_blocks.2.",
                                                                         "output_blocks.3."))


_COMMON = dict(no_mutants=NO_TEXT_QUERIES, **text_attention(_is_text))

CASES = [
    Case("sd1.5", "SD15", _SD1, (4, 4, 10), 24, **_COMMON),
    Case("sd1.5-inpaint", "SD15", _SD1 | dict(in_channels=9), (4, 3, 7), 24, **_COMMON),
    Case("sd1.5-instruct-pix2pix", "SD15_instructpix2pix", _SD1 | dict(in_channels=8), (4, 2, 16), 24, **_COMMON),
    Case("sd2.1", "SD20", _SD2, (4, 2, 7), 24, **_COMMON),
    Case("sd2.1-unclip", "SD21UnclipL", _SD2 | dict(num_classes="sequential", adm_in_channels=32), (4, 3, 5), 24, **_COMMON),
    Case("sd-x4-upscaler", "SD_X4Upscaler", _UPSCALER, (4, 1, 19), 24, no_mutants=NO_TEXT_QUERIES,
         **text_attention(_is_text_of_upscaler)),
    Case("sdxl", "SDXL", _SDXL, (4, 4, 10), 24, options=_pooled, **_COMMON),
    Case("sdxl-refiner", "SDXLRefiner", _SDXL | dict(adm_in_channels=32 + 5 * 256), (4, 5, 7), 24, options=_pooled, **_COMMON),
    Case("koala", "KOALA_700M", _KOALA, (4, 2, 37), 24, options=_pooled, **_COMMON),
]
