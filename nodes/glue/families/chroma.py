"""Chroma and Chroma Radiance (comfy/ldm/chroma/model.py, comfy/ldm/chroma_radiance/model.py): joint attention over
[text][image] in Flux's double and single blocks.

The text's ids are all (0, 0, 0), but some of Radiance's models number their text; ChromaRadianceOptions may say otherwise.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from . import ModelCall
from .joint import append_text, prepend_text

NUMBERED = "use_sequential_txt_ids"


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    params = call.base_model.diffusion_model.params
    chosen = call.transformer_options.get("chroma_radiance_options") or {}
    numbered = chosen.get(NUMBERED, getattr(params, NUMBERED, False))
    text = (append_text if numbered else prepend_text)(call, tokens)
    return [Layout((*text, Segment("I", None)), negatives)]
