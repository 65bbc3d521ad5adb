"""Stable Audio 1 (Open) and 3 (comfy/ldm/audio/dit.py): cross-attention of the sound's tokens with the text, which has no
positions, and with the seconds asked for, which stand behind the text and count as the prompt's.

A negative stands behind both, without seconds of its own, and without Stable Audio 3's learned padding. The differential
models make two attentions with one value; in both the negative's is flipped. The seconds' global vector knows no text.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout
from . import ModelCall, Settings
from .cross import cross_text


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model = call.base_model.diffusion_model
    # Stable Audio 3's own tokens; ComfyUI from before it has none
    before = getattr(model.transformer, "num_memory_tokens", 0) + (model.global_cond_type == "prepend")
    return cross_text(call, tokens, negatives, taken={before + call.x.shape[-1] // model.patch_size})
