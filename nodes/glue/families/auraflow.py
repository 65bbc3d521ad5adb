"""AuraFlow (comfy/ldm/aura/mmdit.py): joint attention over [registers][text][image], in double and single blocks alike.

The text has no positions. Registers are the model's own tokens: they count as the positive's.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from . import ModelCall
from .joint import prepend_text


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    registers = call.base_model.diffusion_model.register_tokens.shape[1]
    return [Layout((Segment("P", registers), *prepend_text(call, tokens), Segment("I", None)), negatives)]
