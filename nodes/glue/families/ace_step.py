"""ACE-Step 1 (comfy/ldm/ace/model.py): cross-attention of the sound's tokens with [speaker][text][lyrics], which are numbered
in this order.

A negative stands behind the lyrics, which keep their numbers. Its own are those of a prompt's text, from 1. It has no lyrics.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.layout import Layout, Segment
from . import ModelCall, Settings
from .cross import IMAGE, unlike
from .objects import in_calls_with

NEGATIVES = "vsf_ace_negatives"


@in_calls_with(NEGATIVES)
def with_negatives(original: Callable[..., Tensor], options: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
    """A block's forward, with the negatives of a call behind what its sound attends to."""
    words, rotation = options[NEGATIVES]
    text, numbers = kwargs["encoder_hidden_states"], kwargs["rotary_freqs_cis_cross"]
    kwargs["encoder_hidden_states"] = torch.cat([text, words.to(text)], dim=1)
    kwargs["rotary_freqs_cis_cross"] = tuple(torch.cat([a, b.to(a)]) for a, b in zip(numbers, rotation, strict=True))
    return original(*args, **kwargs)


OBJECT_PATCHES = {"diffusion_model.transformer_blocks.*.forward": with_negatives}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model = call.base_model.diffusion_model
    dtype = call.base_model.get_dtype_inference()
    words = [model.genre_embedder(t.to(dtype)) for t in tokens]
    text, lyrics = call.context.shape[1], call.conds["lyric_token_idx"].shape[1]
    height, width = (size // patch for size, patch in zip(call.x.shape[-2:], model.patch_size, strict=True))
    repeated, negatives = unlike({height * width}, 1 + text + lyrics, words, negatives)
    numbers = [[t[1:].repeat(r.shape[1] // w.shape[1], 1) for t in model.rotary_emb(w, seq_len=1 + w.shape[1])]
               for w, r in zip(words, repeated, strict=True)]
    call.options[NEGATIVES] = torch.cat(repeated, dim=1), [torch.cat(t) for t in zip(*numbers, strict=True)]
    own = (Segment(c, w.shape[1]) for c, w in enumerate(repeated))
    prompt = Segment("B", 1), *call.prompt(text), Segment("B", lyrics)
    return [Layout((*prompt, *own), negatives, queries=IMAGE)]
