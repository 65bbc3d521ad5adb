"""HunyuanVideo 1 and 1.5, HunyuanImage 2.1 (comfy/ldm/hunyuan_video/model.py): a text refiner, then joint attention over
[CLIP vision][ByT5][text][reference][image] in Flux's double and single blocks; HunyuanImage has ByT5 behind the text.

The text has no positions. CLIP vision and ByT5 (words in quotes) count as the positive's. A negative cannot reach the pooled
CLIP vector (HunyuanVideo 1), and its own words in quotes are read as all others, not by ByT5.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Negative, Segment
from . import ModelCall
from .joint import prepend_text
from .objects import in_calls_with

LENGTHS = "vsf_negative_lengths"


@in_calls_with(LENGTHS)
def refine_apart(refine: Callable[..., Tensor], options: dict[str, Any], x: Tensor, timesteps: Tensor, mask: Tensor | None,
                 **kwargs: Any) -> Tensor:
    """The text refiner mixes tokens in its attention, and in a mean of them all: give it each prompt on its own."""
    *negatives, positive = x.split([*options[LENGTHS], x.shape[1] - sum(options[LENGTHS])], dim=1)
    prompts = *((n, None) for n in negatives), (positive, mask if mask is None else mask[:, -positive.shape[1]:])
    return torch.cat([refine(text, timesteps, own, **kwargs) for text, own in prompts], dim=1)


OBJECT_PATCHES = {"diffusion_model.txt_in.forward": refine_apart}


@torch.compiler.disable(recursive=False)  # TorchCompileModel drops the guards on what args have
def count_past_negatives(start: int, length: int, earlier: Callable[..., Any] | None, args: dict[str, Any],
                         extra: dict[str, Any]) -> Any:
    """For image-to-video v2, which gives the first tokens of single blocks, as many as a frame has, another timestep: where
    negatives of `length` tokens stand among them, from `start`, let them be so many more."""
    (_, end, frame), (_, _, rest) = args["modulation_dims"]
    end += length if end > start else 0
    args = {**args, "modulation_dims": [(0, end, frame), (end, None, rest)]}
    return extra["original_block"](args) if earlier is None else earlier(args, extra)


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: tuple[Negative, ...]) -> list[Layout]:
    model = call.base_model.diffusion_model
    vision, byt5 = call.conds.get("clip_fea"), call.conds.get("txt_byt5") if model.byt5_in is not None else None
    vision, byt5 = (Segment("P", 0 if t is None else t.shape[1]) for t in (vision, byt5))
    before, after = ((vision,), (byt5,)) if model.cond_type_embedding is None else ((vision, byt5), ())
    call.options[LENGTHS] = lengths = tuple(t.shape[1] for t in tokens)
    if call.conds.get("guiding_frame_index") is not None:
        patches = call.transformer_options.get("patches_replace", {})
        blocks = dict(patches.get("dit", {}))
        for name in [("single_block", i) for i in range(len(model.single_blocks))]:
            blocks[name] = partial(count_past_negatives, sum(s.length for s in before), sum(lengths), blocks.get(name))
        call.options["patches_replace"] = {**patches, "dit": blocks}
    return [Layout((*before, *prepend_text(call, tokens), *after, Segment("I", None)), negatives)]
