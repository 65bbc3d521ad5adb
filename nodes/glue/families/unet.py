"""SD 1.x and 2.x, SDXL with its refiner and smaller kin, and other UNets with text (comfy/ldm/modules/attention.py,
comfy/ldm/modules/diffusionmodules/openaimodel.py): cross-attention of every level's tokens with the text, which has no
positions. A negative cannot reach the pooled vector (SDXL).

A level may have as many tokens as the text, and nodes change both numbers (Deep Shrink, ToMe, IPAdapter). So text attention
is not known by its number of keys: the last patch before it puts the negatives behind the text and tells the override. Other
nodes' patches see the prompt alone. So does attention in place of the model's (IPAdapter): what the negatives change in the
model's own is added to it.
"""
from __future__ import annotations

from typing import Any

import comfy.model_base
import torch
from comfy.utils import repeat_to_batch_size
from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from ..override import OVERRIDE, VSFAttention
from . import ModelCall
from .cross import IMAGE, beside

NO_TEXT = (comfy.model_base.SVD_img2vid, comfy.model_base.Stable_Zero123)  # SV3D is an SVD
Options = dict[str, Any]


def refuse(base_model: Any) -> str | None:
    return "it is conditioned on a picture and takes no text" if isinstance(base_model, NO_TEXT) else None


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    words, own = torch.cat(tokens, dim=1), [Segment(c, t.shape[1]) for c, t in enumerate(tokens)]

    def append(x: Tensor, context: Tensor, value: Tensor, extra: Options) -> tuple[Tensor, ...]:
        attention = extra.get(OVERRIDE)
        if not isinstance(attention, VSFAttention):
            return x, context, value  # covered by another node's override: patch.py tells the user
        attention.expect(Layout((Segment("P", context.shape[1]), *own), negatives, queries=IMAGE))
        return x, *(torch.cat([t, repeat_to_batch_size(words.to(t), len(t))], dim=1) for t in (context, value))

    def append_to_text(x: Tensor, context: Tensor, value: Tensor, extra: Options) -> tuple[Tensor, ...]:
        return (x, context, value) if context is x else append(x, context, value, extra)  # the x4 upscaler has two of text

    patches, replaced = (call.transformer_options.get(k, {}) for k in ("patches", "patches_replace"))
    call.options["patches"] = {**patches, "attn1_patch": [append_to_text, *patches.get("attn1_patch", ())],
                               "attn2_patch": [*patches.get("attn2_patch", ()), append]}
    call.options["patches_replace"] = {**replaced, **{name: {block: beside(r) for block, r in replaced[name].items()}
                                                      for name in ("attn1", "attn2") if name in replaced}}
    return []
