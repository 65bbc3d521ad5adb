"""HiDream-I1 (comfy/ldm/hidream/model.py): joint attention over [image][T5][Llama][Llama of this block], in double and
single blocks alike.

The text has two encoders and no positions. Llama's last layer travels through the blocks as T5 does, and each block adds a
layer of its own, afresh: the negative stands behind the positive in all three parts. It cannot reach the pooled CLIP vector.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..reading.conditioning import NegativePrompt
from . import TEXT, Encoded, ModelCall, Settings
from .joint import append_text

LLAMA = "encoder_hidden_states_llama3"
WORDS_OF = {LLAMA: ("conditioning_llama3", -2)}


def encode(base_model: Any, prompt: NegativePrompt) -> Encoded:
    """T5's tokens, (B, LN, C), and Llama's of every layer, (B, layers, LN', C')."""
    llama = prompt.options.get("conditioning_llama3")
    if llama is None:
        raise ValueError("VSF: encode the negative with the text encoder (CLIP) of this model. Expected one of HiDream's text "
                         "encoders, found one without Llama's tokens (conditioning_llama3).")
    return {TEXT: prompt.tokens, LLAMA: llama}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    t5 = append_text(call, tokens)
    parts = [call.conds[LLAMA], *(n[LLAMA] for n in call.negatives)]
    call.conds[LLAMA] = torch.cat(parts, dim=2)
    llama = [*call.prompt(parts[0].shape[2], LLAMA), *(Segment(c, part.shape[2]) for c, part in enumerate(parts[1:]))]
    return [Layout((Segment("I", None), *t5, *llama, *llama), negatives)]
