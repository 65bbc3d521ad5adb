"""Ideogram 4 (comfy/ldm/ideogram4/model.py): joint attention over [text][image] in every block.

The text is numbered and may have padding, which a mask keeps apart from all else; the image's positions are far away, at
65536, and do not depend on the text.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.positions import numbered
from . import ModelCall, Settings
from .joint import append_text

OBJECT_PATCHES = numbered("diffusion_model._backbone", argument=3)


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    return [Layout((*append_text(call, tokens), Segment("I", None)), negatives)]
