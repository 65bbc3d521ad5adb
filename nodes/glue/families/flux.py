"""Flux.1 (comfy/ldm/flux/model.py): joint attention over [text][image][references], in double and single blocks alike.

All text ids are (0, 0, 0), so N0 has the positive's positions wherever it stands. Reference latents (Kontext) and cached
reference keys follow the image and count as image.
"""
from __future__ import annotations

from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from . import ModelCall
from .joint import prepend_text


def refuse(base_model: Any) -> str | None:
    if base_model.diffusion_model.params.txt_ids_dims:
        return "its text tokens have positions (Flux.2, LongCat, Ovis), which this version does not handle yet"
    return None


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    return [Layout((*prepend_text(call, tokens), Segment("I", None)), negatives)]
