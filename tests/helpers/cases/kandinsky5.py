"""Kandinsky 5 (comfy/ldm/kandinsky5/model.py).

The tests' prompts and negatives have 10, 14, 19 and 32 tokens together, as many as a picture here has.
"""
from __future__ import annotations

from typing import Any

import reference
from within import random, text_attention

from cases import Case

_KANDINSKY5 = dict(image_model="kandinsky5", in_visual_dim=16, out_visual_dim=16, in_text_dim=24, in_text_dim2=32, time_dim=32,
                   model_dim=48, ff_dim=64, visual_embed_dim=132, num_text_blocks=2, num_visual_blocks=2, axes_dims=(8, 8, 8))


def _pooled(length: int, seed: int) -> dict[str, Any]:
    return {"pooled_output": random(seed + 1000, 1, 32)}


def _first_frame(length: int, seed: int) -> dict[str, Any]:
    return {**_pooled(length, seed), "time_dim_replace": random(7, 1, 16, 1, 2, 14)}


_TEXT = text_attention(lambda name: name.endswith("cross_attention") or name.startswith("text_transformer_blocks") and
                       name.endswith("self_attention"))


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    found = _TEXT["kinds"](call, batch, queries, keys)
    refiner = found and call.options["within"].running.startswith("text")
    return (call.text_kinds, call.text_kinds) if refiner else found


_COMMON = dict(lengthen=_TEXT["lengthen"], kinds=_kinds, positions=True,
               no_mutants=frozenset({"the negative does not see the image"}))

CASES = [
    Case("kandinsky5", "Kandinsky5", _KANDINSKY5, (16, 2, 4, 10), 24, options=_pooled, **_COMMON),
    Case("kandinsky5-i2v", "Kandinsky5", _KANDINSKY5, (16, 2, 2, 14), 24, options=_first_frame, **_COMMON),
    Case("kandinsky5-image", "Kandinsky5Image", _KANDINSKY5 | dict(visual_embed_dim=64), (16, 2, 38), 24, options=_pooled,
         **_COMMON),
]
