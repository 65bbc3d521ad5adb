"""Qwen-Image 2.1 (comfy/ldm/qwen_image21/model.py, from ComfyUI 0.37), and a model of our own that calls attention as it does,
for ComfyUIs without it.

The reference reads each negative again in every call of the model, before the picture of that call and at a time of its own:
what the model makes of a negative must not depend on them.
"""
from __future__ import annotations

from typing import Any

import comfy.ldm.modules.attention as comfy_attention
import reference
import torch
from prefix_model import Prefix
from within import random

from cases import NO_TEXT_QUERIES, Case

_QWEN = dict(image_model="qwen_image21", in_channels=64, out_channels=64, num_layers=2, attention_head_dim=32,
             num_attention_heads=2, context_in_dim=24, axes_dims_rope=(8, 12, 12))
_PREFIX = dict(image_model="vsf_prefix", in_channels=16, dim=48, heads=2, num_layers=3, context_in_dim=24)


def _letters(length: int, slots: list[int], references: list[torch.Tensor], image: torch.Tensor) -> str:
    """The sequence, one letter a token: a reference without a slot stands behind the text."""
    size = [t.shape[-2] * t.shape[-1] for t in references]
    at = [*slots, *[length] * len(references)][:len(references)]
    text = ["I" * sum(n for n, slot in zip(size, at, strict=True) if slot == i) + "P" * (i < length) for i in range(length + 1)]
    return "".join(text) + "I" * image.shape[-2] * image.shape[-1]


def _read(call: reference.RefCall, negative: reference.RefNegative) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of a negative's words in each block."""
    x = call.x.to(call.model.get_dtype_inference())
    tokens = negative.tokens.to(x).expand(len(x), -1, -1)
    slots = negative.options.get("image_slots", [])
    references = [call.model.process_latent_in(t).to(x).expand(len(x), -1, -1, -1)
                  for t in negative.options.get("reference_latents", [])]
    letters = _letters(tokens.shape[1], slots, references, call.x)
    words, noted = [i for i, letter in enumerate(letters) if letter == "P"], {}

    def note(func, q, k, v, heads, mask=None, skip_reshape=False, transformer_options=None, **kwargs):
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        if k.shape[2] == len(letters):
            noted[transformer_options["block_index"]] = k[:, :, words], v[:, :, words]
        mask = None if mask is None else reference._additive(mask)
        out = reference.vectorised_attention(q, k, v, "I" * q.shape[2], [], [True] * len(q), "I" * k.shape[2], mask)
        return out.transpose(1, 2).flatten(2)

    options = {"optimized_attention_override": note, "qwen_image21_cache": {"device": "off"}}
    call.model.diffusion_model(x, x.new_full((len(x),), 0.7), tokens, references, slots, options)
    return noted


def _lengthen(call: reference.RefCall) -> None:
    call.options["qwen_image21_cache"] = {"device": "off"}
    call.options["reference_beside"] = [_read(call, n) for n in call.negatives]
    call.options["reference_letters"] = _letters(call.conds["c_crossattn"].shape[1], call.conds.get("image_slots") or [],
                                                 call.conds.get("ref_latents") or [], call.x)


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    """The image sees all; words and references, what is before their end, of which the reference's dense mask takes care."""
    letters = call.options["reference_letters"]
    if keys != len(letters):
        return None
    assert queries == call.x.shape[-2] * call.x.shape[-1]
    return "I" * queries, letters + "".join(str(c) * n.tokens.shape[1] for c, n in enumerate(call.negatives))


def _edit(slots: list[int], channels: int, *sizes: tuple[int, int]) -> Any:
    """References of these sizes; the first of them stand in the text."""
    references = [random(60 + i, 1, channels, *size) for i, size in enumerate(sizes)]
    return lambda length, seed: {"reference_latents": references, "image_slots": slots}


def _by_pytorch(base_model: Any) -> None:
    """Sub-quadratic attention, ComfyUI's own choice on a CPU, takes this model's boolean causal mask for an additive one, with
    VSF or without."""
    type(base_model.diffusion_model)._forward.__globals__["optimized_attention"] = comfy_attention.attention_pytorch


_COMMON = dict(width=24, lengthen=_lengthen, kinds=_kinds, positions=True, no_mutants=NO_TEXT_QUERIES, padded=False)

_REAL = dict(newer=True, setup=_by_pytorch, **_COMMON)

CASES = [
    Case("qwen-image-2.1", "QwenImage21", _QWEN, (64, 4, 6), **_REAL),
    Case("qwen-image-2.1-edit", "QwenImage21", _QWEN, (64, 5, 6), options=_edit([2], 64, (3, 4)), **_REAL),
    Case("qwen-image-2.1-edit-two", "QwenImage21", _QWEN, (64, 4, 5), options=_edit([1, 3], 64, (4, 5), (3, 3), (2, 2)),
         **_REAL),
    Case("prefix-stand-in", Prefix, _PREFIX, (16, 4, 6), **_COMMON),
    Case("prefix-stand-in-edit", Prefix, _PREFIX, (16, 5, 6), options=_edit([2], 16, (3, 4)), **_COMMON),
    Case("prefix-stand-in-edit-two", Prefix, _PREFIX, (16, 4, 5), options=_edit([1, 3], 16, (4, 5), (3, 3), (2, 2)), **_COMMON),
]
