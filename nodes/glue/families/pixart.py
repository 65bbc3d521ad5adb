"""PixArt alpha and sigma (comfy/ldm/pixart/pixartms.py): cross-attention of the image's tokens with the text, which has no
positions. ComfyUI's override does not see it.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout
from . import ModelCall, Settings, unseen
from .cross import cross_text

OBJECT_PATCHES = unseen.patches("diffusion_model.blocks.*.cross_attn")


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    unseen.show(call)
    patch = call.base_model.diffusion_model.patch_size
    height, width = (size // patch for size in call.x.shape[-2:])
    return cross_text(call, tokens, negatives, taken={height * width})
