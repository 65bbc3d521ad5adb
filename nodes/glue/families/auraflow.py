"""AuraFlow (comfy/ldm/aura/mmdit.py): joint attention over [registers][text][image], in double and single blocks alike.

The text has no positions. Registers are the model's own tokens.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .joint import prepend_text


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    registers = call.base_model.diffusion_model.register_tokens.shape[1]
    return [Layout((Segment("B", registers), *prepend_text(call, tokens), Segment("I", None)), negatives)]
