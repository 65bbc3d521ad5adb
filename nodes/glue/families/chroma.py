"""Chroma and Chroma Radiance (comfy/ldm/chroma/model.py, comfy/ldm/chroma_radiance/model.py): joint attention over
[text][image] in Flux's double and single blocks.

The text's ids are all (0, 0, 0), but some of Radiance's models number their text; ChromaRadianceOptions may say otherwise.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.positions import numbered
from . import ModelCall, Settings
from .joint import append_text, prepend_text

NUMBERED = "use_sequential_txt_ids"


def object_patches(base_model: Any) -> dict[str, Callable[[Any], Any]]:
    return numbered("diffusion_model.pe_embedder.forward") if hasattr(base_model.diffusion_model.params, NUMBERED) else {}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    params = call.base_model.diffusion_model.params
    chosen = call.transformer_options.get("chroma_radiance_options") or {}
    text = (append_text if chosen.get(NUMBERED, getattr(params, NUMBERED, False)) else prepend_text)(call, tokens)
    return [Layout((*text, Segment("I", None)), negatives)]
