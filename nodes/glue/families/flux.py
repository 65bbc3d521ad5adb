"""Flux.1, Flux.2, LongCat-Image, Ovis-Image (comfy/ldm/flux/model.py): joint attention over [text][image][references], in
double and single blocks alike.

Flux.1's text ids are all (0, 0, 0), so N0 has the positive's positions wherever it stands; the others number their text.
Reference latents (Kontext) and cached reference keys follow the image and count as image. A negative cannot reach the pooled
CLIP vector (Flux.1).
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from ..positions import numbered
from . import ModelCall, Settings
from .joint import append_text, prepend_text


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


def keep_out_of_patches(call: ModelCall, layouts: list[Layout], length: int) -> None:
    """Other nodes' patches of what goes into the blocks may lengthen the text (USO's style reference does): let them see the
    positive's `length` tokens alone, and put the negatives behind what they make of those. Tokens that they add are no
    prompt's words."""
    patches, kept, positions = call.transformer_options["patches"], {}, call.positions
    call.positions = None  # of the text as it comes: taken here, before it is lengthened

    segments = layouts[0].segments

    @torch.compiler.disable  # compiled code would not see another length: TorchCompileModel drops such guards
    def before(inputs: dict[str, Any]) -> dict[str, Any]:
        if positions is not None:
            inputs["txt_ids"] = positions.of(inputs["txt_ids"], dim=1)
        for name in ("txt", "txt_ids"):
            inputs[name], kept[name] = inputs[name].tensor_split([length], dim=1)
        return inputs

    @torch.compiler.disable
    def after(inputs: dict[str, Any]) -> dict[str, Any]:
        lanes = [s for s in segments if isinstance(s.role, int)]
        text = call.prompt(inputs["txt"].shape[1])
        layouts[0] = dataclasses.replace(layouts[0], segments=(*text, *lanes, segments[-1]))
        return {**inputs, **{name: torch.cat([inputs[name], negative], dim=1) for name, negative in kept.items()}}

    call.options["patches"] = {**patches, "post_input": [before, *patches["post_input"], after]}
