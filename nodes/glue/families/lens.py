"""Lens (comfy/ldm/lens/model.py) and JoyImage (comfy/ldm/joyimage/model.py): joint attention over [image][references][text]
in every block.

Lens numbers its text, from the middle of the image on, and gives every attention a mask; JoyImage does neither.
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
    is_lens = hasattr(base_model.diffusion_model, "pos_embed")
    return numbered("diffusion_model.pos_embed.forward", is_last=True) if is_lens else {}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    return [Layout((Segment("I", None), *append_text(call, tokens)), negatives)]
