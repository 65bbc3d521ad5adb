"""Lens (comfy/ldm/lens/model.py) and JoyImage (comfy/ldm/joyimage/model.py): joint attention over [image][references][text]
in every block.

Lens numbers its text, from the middle of the image on, and gives every attention a mask; JoyImage does neither.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from . import ModelCall
from .joint import append_text


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    return [Layout((Segment("I", None), *append_text(call, tokens)), negatives)]
