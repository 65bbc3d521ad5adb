"""Wan 2.1 and 2.2 (comfy/ldm/wan/model.py): cross-attention of the video's tokens with the text, which has no positions.

Image-to-video models attend to CLIP vision tokens in a call of its own; those are left alone.
"""
from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout, Negative
from . import ModelCall
from .cross import cross_text


def refuse(base_model: Any) -> str | None:
    return None


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    patch = call.base_model.diffusion_model.patch_size
    video = math.prod(-(-size // p) for size, p in zip(call.x.shape[2:], patch, strict=True))
    vision = call.conds.get("clip_fea")
    taken = {video} if vision is None else {video, vision.shape[-2]}
    return cross_text(call, tokens, negatives, taken)
