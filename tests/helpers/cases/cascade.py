"""Stable Cascade's stage C (comfy/ldm/cascade/stage_c.py)."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import reference
from within import random

from cases import NO_TEXT_QUERIES, Case

_STAGE_C = dict(stable_cascade_stage="c", c_r=16, c_cond=32, c_hidden=[32, 32], nhead=[2, 2], blocks=[[1, 1], [1, 1]],
                c_clip_text=24, c_clip_text_pooled=32)


def _pooled(length: int, seed: int) -> dict[str, Any]:
    return {"pooled_output": random(seed + 1000, 1, 32)}


def _vision(length: int, seed: int) -> dict[str, Any]:
    """Two pictures."""
    return {**_pooled(length, seed), "unclip_conditioning": [
        {"strength": 0.8, "clip_vision_output": SimpleNamespace(image_embeds=random(i, 1, 768))} for i in (3, 4)]}


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """The image with [image][P][N0 of each][pooled, 4][vision, 4 of each picture]."""
    after = 4 + 4 * call.conds["clip_img"].shape[1]
    assert keys == queries + len(call.text_kinds) + after
    return "I" * queries, "I" * queries + call.text_kinds + "B" * after


def _append_text(call: reference.RefCall) -> None:
    call.conds["c_crossattn"] = call.conds["clip_text"]
    reference.append_text(call)
    call.conds["clip_text"] = call.conds.pop("c_crossattn")
    call.conds["c_crossattn"] = None


_COMMON = dict(lengthen=_append_text, kinds=_kinds, no_mutants=NO_TEXT_QUERIES)

CASES = [
    Case("cascade", "Stable_Cascade_C", _STAGE_C, (16, 3, 5), 24, options=_pooled, **_COMMON),
    Case("cascade-vision", "Stable_Cascade_C", _STAGE_C, (16, 4, 6), 24, options=_vision, **_COMMON),
]
