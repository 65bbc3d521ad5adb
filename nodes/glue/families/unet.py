"""SD 1.x and 2.x, SDXL with its refiner and its smaller kin, and other UNets with text (comfy/ldm/modules/attention.py,
comfy/ldm/modules/diffusionmodules/openaimodel.py): cross-attention of each level's tokens with the text, which has no
positions. A negative cannot reach the pooled vector (SDXL).

A level may have as many tokens as the text, and nodes change either (Deep Shrink, HyperTile, IPAdapter). So text attention
is not known by a number: the last patch before it puts the negatives behind the text, and tells the override that it comes.
Other nodes' patches see the prompt alone. Attention that a node makes in place of the model's (IPAdapter) is of the prompt
alone too, and gets added to it what the negatives change in the model's own.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.ldm.modules.attention as comfy_attention
import comfy.model_base
import torch
from comfy.utils import repeat_to_batch_size
from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from ..override import OVERRIDE, VSFAttention
from . import ModelCall
from .cross import IMAGE

NO_TEXT = (comfy.model_base.SVD_img2vid, comfy.model_base.Stable_Zero123)  # SV3D is an SVD
Replace = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


def refuse(base_model: Any) -> str | None:
    return "it is conditioned on a picture and takes no text" if isinstance(base_model, NO_TEXT) else None


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    words = torch.cat(tokens, dim=1)
    own = tuple(Segment(c, t.shape[1]) for c, t in enumerate(tokens))

    def append(n: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        attention = extra.get(OVERRIDE)
        if not isinstance(attention, VSFAttention):
            return n, context, value  # another node's override: this call is found to be without negatives, and told
        attention.expect(Layout((Segment("P", context.shape[1]), *own), negatives, queries=IMAGE))
        more = repeat_to_batch_size(words.to(context), len(context))
        return n, torch.cat([context, more], dim=1), torch.cat([value, more], dim=1)

    def append_to_text(n: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        return (n, context, value) if context is n else append(n, context, value, extra)

    patches, replaced = (call.transformer_options.get(k, {}) for k in ("patches", "patches_replace"))
    call.options["patches"] = {**patches, "attn1_patch": [append_to_text, *patches.get("attn1_patch", ())],
                               "attn2_patch": [*patches.get("attn2_patch", ()), append]}
    call.options["patches_replace"] = {**replaced, **{kind: {block: _beside(r) for block, r in replaced[kind].items()}
                                                      for kind in ("attn1", "attn2") if kind in replaced}}
    return []


def _beside(replace: Replace) -> Replace:
    """A node's attention, of the prompt alone, and what the negatives change in the model's own."""
    def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        expected = getattr(extra.get(OVERRIDE), "expected", None)
        if expected is None:  # self-attention
            return replace(q, k, v, extra)
        with_negatives = _attention(q, k, v, extra)
        k, v = (t[:, :expected.segments[0].length] for t in (k, v))
        return replace(q, k, v, extra) + with_negatives - _attention(q, k, v, extra)
    return attend


def _attention(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
    return comfy_attention.optimized_attention(q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"],
                                               transformer_options=extra)
