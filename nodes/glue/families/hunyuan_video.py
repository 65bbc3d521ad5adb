"""HunyuanVideo 1 and 1.5, HunyuanImage 2.1 (comfy/ldm/hunyuan_video/model.py): a text refiner, then joint attention over
[CLIP vision][ByT5][text][reference][image] in Flux's double and single blocks; HunyuanImage has ByT5 behind the text.

The text has no positions. A negative cannot reach the pooled CLIP vector (HunyuanVideo 1), nor ByT5 by words in quotes.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .first_frame import keep_first_frame
from .joint import prepend_text
from .objects import in_calls_with

LENGTHS = "vsf_negative_lengths"


@in_calls_with(LENGTHS)
def refine_apart(refine: Callable[..., Tensor], options: dict[str, Any], x: Tensor, timesteps: Tensor, mask: Tensor | None,
                 **kwargs: Any) -> Tensor:
    """The text refiner mixes tokens: give it each prompt on its own, a context with what stands about the prompt's words."""
    lengths, words = options[LENGTHS]
    *negatives, positive = x.split([*lengths, x.shape[1] - sum(lengths)], dim=1)
    mask = mask if mask is None else mask[:, -positive.shape[1]:]

    def refined(text: Tensor, first: int, last: int) -> Tensor:
        own, length = mask, text.shape[1]
        if own is not None:  # it is added to the logits by now: 0 is seen
            own = torch.cat([own[:, :first], own.new_zeros(len(own), length), own[:, last:]], dim=1)
        text = torch.cat([positive[:, :first], text, positive[:, last:]], dim=1)
        return refine(text, timesteps, own, **kwargs)[:, first:first + length]
    parts = [refine(n, timesteps, None, **kwargs) if span is None else refined(n, *span)
             for n, span in zip(negatives, words, strict=True)]
    return torch.cat([*parts, refine(positive, timesteps, mask, **kwargs)], dim=1)


OBJECT_PATCHES = {"diffusion_model.txt_in.forward": refine_apart}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model = call.base_model.diffusion_model
    vision, byt5 = call.conds.get("clip_fea"), call.conds.get("txt_byt5") if model.byt5_in is not None else None
    vision, byt5 = (Segment("B", 0 if t is None else t.shape[1]) for t in (vision, byt5))
    before, after = ((vision,), (byt5,)) if model.cond_type_embedding is None else ((vision, byt5), ())
    lengths = [t.shape[1] for t in tokens]
    places = [call.words_span() if call.is_context(c) else None for c in range(len(tokens))]
    call.options[LENGTHS] = lengths, places
    if call.conds.get("guiding_frame_index") is not None:
        start = sum(s.tokens for s in before)
        lanes = [(n, None if span is None else start + span[0]) for n, span in zip(lengths, places, strict=True)]
        keep_first_frame(call, start, lanes, len(model.single_blocks))
    return [Layout((*before, *prepend_text(call, tokens), *after, Segment("I", None)), negatives)]
