"""Hunyuan-DiT (comfy/ldm/hydit/models.py): cross-attention of the image's tokens with [CLIP][mT5], which have no positions.
ComfyUI's override does not see it.

A negative's tokens of both encoders stand before the positive's, as CLIP's: the model replaces padding at the end of each,
and pools all of mT5's, which a negative cannot reach.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout
from ..reading.conditioning import NegativePrompt
from . import TEXT, Encoded, ModelCall, Settings, unseen
from .cross import IMAGE, unlike
from .joint import prepend_text

MT5 = "encoder_hidden_states_t5"
WORDS_OF = {MT5: ("conditioning_mt5xl", -2)}
OBJECT_PATCHES = unseen.patches("diffusion_model.blocks.*.attn2")


def encode(base_model: Any, prompt: NegativePrompt) -> Encoded:
    """CLIP's tokens, (B, LN, C), and mT5's, (B, LN', C')."""
    mt5 = prompt.options.get("conditioning_mt5xl")
    if mt5 is None:
        raise ValueError("VSF: encode the negative with the text encoder (CLIP) of this model. Expected one of Hunyuan-DiT's "
                         "text encoders, found one without mT5's tokens (conditioning_mt5xl).")
    return {TEXT: prompt.tokens, MT5: mt5}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    unseen.show(call)
    model = call.base_model.diffusion_model
    dtype = call.base_model.get_dtype_inference()
    both = [torch.cat([clip.to(dtype), model.mlp_t5(n[MT5].to(dtype))], dim=1)
            for clip, n in zip(tokens, call.negatives, strict=True)]
    height, width = ((size + model.patch_size // 2) // model.patch_size for size in call.x.shape[-2:])
    mt5 = call.conds[MT5].shape[1]
    both, negatives = unlike({height * width}, call.context.shape[1] + mt5, both, negatives)
    return [Layout((*prepend_text(call, both), *call.prompt(mt5, MT5)), negatives, queries=IMAGE)]
