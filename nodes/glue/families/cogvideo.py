"""CogVideoX (comfy/ldm/cogvideo/model.py): joint attention over [text][video] in every block. The text has no positions."""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .joint import prepend_text


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    return [Layout((*prepend_text(call, tokens), Segment("I", None)), negatives)]
