"""Qwen-Image, Qwen-Image-Edit and Mage-Flow (comfy/ldm/qwen_image/model.py, comfy/ldm/mage_flow/model.py): joint attention
over [text][image][references] in every block.

The text is numbered (Qwen-Image) and may have an attention mask; reference latents count as image.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.positions import numbered
from . import ModelCall, Settings
from .joint import append_text


def object_patches(base_model: Any) -> dict[str, Callable[[Any], Any]]:
    is_numbered = type(base_model.diffusion_model).__name__ != "MageFlowTransformer2DModel"
    return numbered("diffusion_model.pe_embedder.forward") if is_numbered else {}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    return [Layout((*append_text(call, tokens), Segment("I", None)), negatives)]
