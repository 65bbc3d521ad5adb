"""HiDream-O1 (comfy/ldm/hidream_o1/model.py).

The reference reads each negative again in every call of the model, before a picture of full size.
"""
from __future__ import annotations

from typing import Any

import reference
import torch
from within import random

from cases import NO_TEXT_QUERIES, Case

_TIME = 151673
_IMAGE = 151655
_TEXT = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             head_dim=24, rope_dims=[4, 4, 4])
_VISION = dict(hidden_size=32, num_heads=2, intermediate_size=32, depth=1, num_position_embeddings=16)
_HIDREAM = dict(image_model="hidream_o1", text_config_overrides=_TEXT, vision_config_overrides=_VISION)


def _ids(length: int, seed: int) -> torch.Tensor:
    """Token ids, the time's the last; a few more than `length`, as the chat's template has."""
    ids = torch.randint(0, 151643, (1, length + 4), generator=torch.Generator().manual_seed(seed))
    ids[0, -1] = _TIME
    return ids


def _options(length: int, seed: int) -> dict[str, Any]:
    return {"text_input_ids": _ids(length, seed)}


def _edit(length: int, seed: int) -> dict[str, Any]:
    return {"text_input_ids": _ids(length, seed), "reference_latents": [random(70, 1, 64, 96, 3).sigmoid()]}


def _read(call: reference.RefCall, negative: reference.RefNegative) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of a negative's words in each block."""
    from comfy.ldm.hidream_o1.conditioning import build_extra_conds  # newer than the oldest ComfyUI
    x = call.x.to(call.model.get_dtype_inference())
    conds = build_extra_conds(negative.options["text_input_ids"], x, negative.options.get("reference_latents"))
    ids = conds.pop("input_ids").expand(len(x), -1)
    words = [i for i, token in enumerate(ids[0, :conds["ar_len"]].tolist()) if token != _IMAGE]
    if "ref_patches" in conds:
        conds["ref_patches"] = conds["ref_patches"].expand(len(x), -1, -1)
    noted = {}

    def note(func, q, k, v, heads, mask=None, transformer_options=None, **kwargs):
        k, v = (t.repeat_interleave(heads // t.shape[1], 1) for t in (k, v))
        noted[transformer_options["block_index"]] = k[:, :, words], v[:, :, words]
        return reference.vectorised_attention(q, k, v, "I" * q.shape[2], [], [True] * len(q), "I" * k.shape[2])

    model = call.model.diffusion_model
    model(x, x.new_full((len(x),), 300.0), transformer_options={"optimized_attention_override": note}, input_ids=ids, **conds)
    model.clear_kv_cache()
    return noted


def _lengthen(call: reference.RefCall) -> None:
    call.options["reference_beside"] = [_read(call, n) for n in call.negatives]
    call.model.diffusion_model.clear_kv_cache()


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """Time and image ask; the time's token does not see the negatives."""
    text = call.conds["ar_len"]
    assert (queries, keys) == (keys - text, call.conds["vinput_mask"].shape[1])
    negatives = "".join(str(c) * lane[0][0].shape[2] for c, lane in enumerate(call.options["reference_beside"]))
    prompt = "".join("I" if token == _IMAGE else "P" for token in call.conds["input_ids"][0, :text].tolist())
    return "B" + "I" * (queries - 1), prompt + "B" + "I" * (queries - 1) + negatives


_COMMON = dict(lengthen=_lengthen, kinds=_kinds, positions=True, padded=False,
               no_mutants=NO_TEXT_QUERIES - {"the prompt sees the negative"})

CASES = [
    Case("hidream-o1", "HiDreamO1", _HIDREAM, (3, 128, 96), 1, options=_options, **_COMMON),
    Case("hidream-o1-edit", "HiDreamO1", _HIDREAM, (3, 128, 96), 1, options=_edit, **_COMMON),
]
