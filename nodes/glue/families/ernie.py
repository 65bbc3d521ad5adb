"""Ernie-Image (comfy/ldm/ernie/model.py): joint attention over [image][text] in every block. ComfyUI's override does not see
it.

The text is numbered, and the image by the text's length: it is moved back by the length of the negatives.
"""
from __future__ import annotations

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.positions import numbered
from . import ModelCall, Settings, unseen
from .joint import append_text

OBJECT_PATCHES = {**unseen.patches("diffusion_model.layers.*.self_attention"),
                  **numbered("diffusion_model.pos_embed.forward", is_last=True)}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    unseen.show(call)
    own = call.transformer_options.get("rope_options") or {}
    added = sum(t.shape[1] for t in tokens)
    call.options["rope_options"] = {**own, "shift_t": own.get("shift_t", 0.0) - added}
    return [Layout((Segment("I", None), *append_text(call, tokens)), negatives)]
