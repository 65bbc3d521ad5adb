"""SD3 and SD3.5 (comfy/ldm/modules/diffusionmodules/mmdit.py): joint attention over [registers][text][image].

The text has no positions. SD3.5 Medium's second attention is over the image alone, with fewer tokens than any joint one. A
negative cannot reach the pooled CLIP vector.
"""
from __future__ import annotations

from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .joint import prepend_text


def refuse(base_model: Any) -> str | None:
    if base_model.diffusion_model.context_processor is not None:
        return "its context processor mixes the text before the blocks, where attention cannot be reached"
    return None


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model = call.base_model.diffusion_model
    patch = model.x_embedder.patch_size[0]
    height, width = ((size + 1) // patch for size in call.x.shape[-2:])  # as MMDiT.cropped_pos_embed counts them
    text = prepend_text(call, tokens)
    return [Layout((Segment("B", model.register_length), *text, Segment("I", height * width)), negatives)]
