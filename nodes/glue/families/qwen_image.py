"""Qwen-Image, Qwen-Image-Edit and Mage-Flow (comfy/ldm/qwen_image/model.py, comfy/ldm/mage_flow/model.py): joint attention
over [text][image][references] in every block.

The text is numbered (Qwen-Image) and may have an attention mask; reference latents count as image.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from . import ModelCall
from .joint import append_text


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    return [Layout((*append_text(call, tokens), Segment("I", None)), negatives)]
