"""SD 1.x and 2.x, SDXL with its refiner and smaller kin, and other UNets with text (comfy/ldm/modules/attention.py,
comfy/ldm/modules/diffusionmodules/openaimodel.py): cross-attention of every level's tokens with the text, which has no
positions. A negative cannot reach the pooled vector (SDXL).

A level may have as many tokens as the text, and nodes change both numbers (Deep Shrink, ToMe, IPAdapter). So text attention
is not known by its number of keys: the last patch before it puts the negatives behind the text and tells the override. Other
nodes' patches of keys and values (attn2_patch) see the prompt alone; a hypernetwork changes each token by itself, as the
model's weights would, and the negatives' too. Patches of the output (attn2_output_patch) see what the negatives made of it.
Attention in place of the model's (IPAdapter) sees the prompt alone: what the negatives change in the model's own is added.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import comfy.model_base
import torch
from comfy.utils import repeat_to_batch_size
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.override import OVERRIDE, VSFAttention
from . import ModelCall, Settings
from .cross import IMAGE, beside

NO_TEXT = (comfy.model_base.SVD_img2vid, comfy.model_base.Stable_Zero123)  # SV3D is an SVD
Options = dict[str, Any]
Patched = tuple[Tensor, ...]


def refuse(base_model: Any) -> str | None:
    return "it is conditioned on a picture and takes no text" if isinstance(base_model, NO_TEXT) else None


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    words, own = torch.cat(tokens, dim=1), [Segment(c, t.shape[1]) for c, t in enumerate(tokens)]

    def append(x: Tensor, context: Tensor, value: Tensor, extra: Options, hypernetworks: Sequence[Any] = ()) -> Patched:
        attention = extra.get(OVERRIDE)
        if not isinstance(attention, VSFAttention):
            return x, context, value  # covered by another node's override: patch.py tells the user
        attention.expect(Layout((*call.prompt(context.shape[1]), *own), negatives, queries=IMAGE))
        k = v = words.to(context)
        for change in hypernetworks:
            _, k, v = change(x, k, v, extra)
        return x, *(torch.cat([t, repeat_to_batch_size(n.to(t), len(t))], dim=1) for t, n in ((context, k), (value, v)))

    def append_to_text(x: Tensor, context: Tensor, value: Tensor, extra: Options) -> Patched:
        return (x, context, value) if context is x else append(x, context, value, extra)  # the x4 upscaler has two of text

    patches, replaced = (call.transformer_options.get(k, {}) for k in ("patches", "patches_replace"))
    attn2 = patches.get("attn2_patch", ())
    of_tokens = [p for p in attn2 if hasattr(p, "hypernet")]  # as comfy_extras/nodes_hypernetwork.py makes them
    call.options["patches"] = {**patches, "attn1_patch": [append_to_text, *patches.get("attn1_patch", ())],
                               "attn2_patch": [*attn2, partial(append, hypernetworks=of_tokens)]}
    call.options["patches_replace"] = {**replaced, **{name: {block: beside(r) for block, r in replaced[name].items()}
                                                      for name in ("attn1", "attn2") if name in replaced}}
    return []
