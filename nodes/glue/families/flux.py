"""Flux.1, Flux.2, LongCat-Image, Ovis-Image (comfy/ldm/flux/model.py): joint attention over [text][image][references], in
double and single blocks alike.

Flux.1's text ids are all (0, 0, 0), so N0 has the positive's positions wherever it stands; the others number their text.
Reference latents (Kontext) and cached reference keys follow the image and count as image.
"""
from __future__ import annotations

from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from . import ModelCall
from .joint import append_text, prepend_text


def refuse(base_model: Any) -> str | None:
    return None


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    if not call.base_model.diffusion_model.params.txt_ids_dims:
        return [Layout((*prepend_text(call, tokens), Segment("I", None)), negatives)]
    if type(call.base_model).__name__ == "LongCatImage":
        # it moves the image's positions by the length of the text that it is given: keep them where P ends
        length = float(call.context.shape[1])
        own = call.transformer_options.get("rope_options", {})
        call.options["rope_options"] = {"shift_y": length, "shift_x": length, **own}
    return [Layout((*append_text(call, tokens), Segment("I", None)), negatives)]
