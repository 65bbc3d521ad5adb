"""Cosmos 1, Cosmos-Predict2 and Anima (comfy/ldm/cosmos/model.py, comfy/ldm/cosmos/predict2.py, comfy/ldm/anima/model.py):
cross-attention of the picture's or video's tokens with the text, which has no positions there.

Anima's text passes through an adapter first, in which the language model's tokens and T5's ids have positions. So does each
negative, as a prompt of its own; the zeros that the adapter puts behind a prompt, up to 512, are not put behind a negative.
"""
from __future__ import annotations

from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout
from ..reading.conditioning import NegativePrompt
from . import TEXT, Encoded, ModelCall, Settings
from .cross import cross_text

IDS, WEIGHTS = "t5xxl_ids", "t5xxl_weights"
WORDS_OF = {TEXT: (IDS, -1)}  # in Anima


def encode(base_model: Any, prompt: NegativePrompt) -> Encoded:
    """What Anima.extra_conds does, without the zeros; the tokens as they are in Cosmos."""
    ids, weights = (prompt.options.get(k) for k in (IDS, WEIGHTS))
    adapt = getattr(base_model.diffusion_model, "preprocess_text_embeds", None)
    if adapt is None or ids is None:
        return {TEXT: prompt.tokens}
    device, dtype = base_model.device, base_model.get_dtype_inference()
    weights = None if weights is None else weights[None, :, None].to(device, dtype)
    return {TEXT: adapt(prompt.tokens.to(device, dtype), ids[None].to(device), t5xxl_weights=weights)[:, :len(ids)]}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model = call.base_model.diffusion_model
    if IDS in call.conds:  # outside inference mode, Anima leaves the adapter for its forward
        ids, weights = call.conds.pop(IDS), call.conds.pop(WEIGHTS, None)
        dtype = call.base_model.get_dtype_inference()
        call.context = model.preprocess_text_embeds(call.context.to(dtype), ids,
                                                    t5xxl_weights=None if weights is None else weights.to(dtype))
    frames, height, width = call.x.shape[2:]
    patches = [-(-size // model.patch_spatial) for size in (height, width)]
    return cross_text(call, tokens, negatives, taken={-(-frames // model.patch_temporal) * patches[0] * patches[1]})
