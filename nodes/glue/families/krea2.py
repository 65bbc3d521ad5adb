"""Krea 2 (comfy/ldm/krea2/model.py): text refiners (txtfusion), then joint attention over [text][image][references].

The refiners' attention is over the text alone, and is kept apart for each prompt; text has no positions. The layer-wise
attention before them, one row a token, mixes no tokens.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .joint import prepend_text


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    text = tuple(prepend_text(call, tokens))
    return [Layout((*text, Segment("I", None)), negatives), Layout(text, negatives)]
