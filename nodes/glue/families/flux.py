"""Flux.1, Flux.2, LongCat-Image, Ovis-Image (comfy/ldm/flux/model.py): joint attention over [text][image][references], in
double and single blocks alike.

Flux.1's text ids are all (0, 0, 0), so N0 has the positive's positions wherever it stands; the others number their text.
Reference latents (Kontext) and cached reference keys follow the image and count as image. A negative cannot reach the pooled
CLIP vector (Flux.1).
"""
from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from . import ModelCall
from .joint import append_text, prepend_text


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
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
    positive's `length` tokens alone, and put the negatives behind what they make of those."""
    patches, kept = call.transformer_options["patches"], {}

    @torch.compiler.disable  # compiled code would not see another length: TorchCompileModel drops such guards
    def before(inputs: dict[str, Any]) -> dict[str, Any]:
        for name in ("txt", "txt_ids"):
            inputs[name], kept[name] = inputs[name].tensor_split([length], dim=1)
        return inputs

    @torch.compiler.disable
    def after(inputs: dict[str, Any]) -> dict[str, Any]:
        text = Segment("P", inputs["txt"].shape[1])
        layouts[0] = dataclasses.replace(layouts[0], segments=(text, *layouts[0].segments[1:]))
        return {**inputs, **{name: torch.cat([inputs[name], negative], dim=1) for name, negative in kept.items()}}

    call.options["patches"] = {**patches, "post_input": [before, *patches["post_input"], after]}
