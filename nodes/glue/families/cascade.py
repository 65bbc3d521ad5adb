"""Stable Cascade's stage C (comfy/ldm/cascade/stage_c.py, comfy/ldm/cascade/common.py): attention of the image's tokens with
[image][text][pooled text][CLIP vision] in one, where text has no positions.

The negatives stand before the text. The pooled text and CLIP vision are no words; a negative cannot reach them.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .cross import IMAGE
from .joint import prepend_text

TEXT_KEY = "clip_text"


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    vectors = (call.conds[k] for k in ("clip_text_pooled", "clip_img"))
    rest = call.base_model.diffusion_model.c_clip_seq * sum(v.shape[1] if v.ndim == 3 else 1 for v in vectors)
    return [Layout((Segment("I", None), *prepend_text(call, tokens), Segment("B", rest)), negatives, queries=IMAGE)]
