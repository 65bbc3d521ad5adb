"""Flux.1, Flux.2, LongCat-Image, Ovis-Image (comfy/ldm/flux/model.py): joint attention over [text][image][references], in
double and single blocks alike.

Flux.1's text ids are all (0, 0, 0), so N0 has the positive's positions wherever it stands; the others number their text.
Reference latents (Kontext) and cached reference keys follow the image and count as image. A negative cannot reach the pooled
CLIP vector (Flux.1).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..attention.positions import numbered
from . import ModelCall, Settings
from .joint import append_text, prepend_text
from .post_input import keep_out_of_patches


def object_patches(base_model: Any) -> dict[str, Callable[[Any], Any]]:
    return numbered("diffusion_model.pe_embedder.forward") if base_model.diffusion_model.params.txt_ids_dims else {}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    length = call.context.shape[1]
    if type(call.base_model).__name__ == "LongCatImage":
        # it moves the image's positions by the length of the text that it is given: keep them where P ends
        own = call.transformer_options.get("rope_options", {})
        call.options["rope_options"] = {"shift_y": float(length), "shift_x": float(length), **own}
    is_patched = bool(call.transformer_options.get("patches", {}).get("post_input"))
    numbers_text = bool(call.base_model.diffusion_model.params.txt_ids_dims)
    text = (append_text if is_patched or numbers_text else prepend_text)(call, tokens)
    layouts = [Layout((*text, Segment("I", None)), negatives)]
    if is_patched:
        keep_out_of_patches(call, layouts, length)
    return layouts
