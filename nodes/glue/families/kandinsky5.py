"""Kandinsky 5, of pictures and videos (comfy/ldm/kandinsky5/model.py): text blocks, in which each prompt's tokens attend to
themselves, then cross-attention of the image's tokens with the text.

The text is numbered in its blocks: a negative's numbers follow the prompt's (a context's are the prompt's), made apart from
them, since numbers beyond 256 in half precision depend on how many there are. A negative cannot reach the pooled CLIP vector.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout
from . import ModelCall, Settings
from .cross import cross_text
from .objects import in_calls_with

NUMBERS = "vsf_text_numbers"


@in_calls_with(NUMBERS)
def number_apart(number: Callable[..., Tensor], options: dict[str, Any], length: int, *args: Any, **kwargs: Any) -> Tensor:
    """Kandinsky5.rope_encode_1d for a text of several prompts: (start, length) of each."""
    return torch.cat([number(own, start, **kwargs) for start, own in options[NUMBERS]], dim=1)


OBJECT_PATCHES = {"diffusion_model.rope_encode_1d": number_apart}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model = call.base_model.diffusion_model
    lengths = [call.context.shape[1], *(t.shape[1] for t in tokens)]
    image = math.prod(-(-size // patch) for size, patch in zip(call.x.shape[:1:-1], model.patch_size[::-1], strict=False))
    [cross] = cross_text(call, tokens, negatives, taken={image})
    start = call.words_span()[0]
    prompt, first, *others = [(start if c > 0 and call.is_context(c - 1) else at, length) for c, (at, length)
                              in enumerate(zip(accumulate(lengths[:-1], initial=0), lengths, strict=True))]
    repeats = next(s.tokens for s in cross.segments if s.role == 0) // first[1]  # each with the same numbers
    call.options[NUMBERS] = (prompt, *[first] * repeats, *others)
    return [cross, Layout(cross.segments, cross.negatives)]
