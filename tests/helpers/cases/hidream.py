"""HiDream-I1 (comfy/ldm/hidream/model.py)."""
from __future__ import annotations

import dataclasses
from typing import Any

import reference
import tiny
import torch

from cases import Case

_HIDREAM = dict(image_model="hidream", patch_size=2, in_channels=16, out_channels=16, num_layers=2, num_single_layers=2,
                attention_head_dim=32, num_attention_heads=2, caption_channels=[24, 20], text_emb_dim=32,
                num_routed_experts=2, num_activated_experts=1, axes_dims_rope=(8, 12, 12), llama_layers=[0, 1, 2, 2])
_LLAMA = "encoder_hidden_states_llama3"


def _options(length: int, seed: int) -> dict[str, Any]:
    """Llama has another number of tokens than T5, in three layers."""
    return {"pooled_output": tiny.tokens(1, seed + 1000, width=32)[0],
            "conditioning_llama3": tiny.tokens(length + 2, seed + 2000, batch=3, width=20)[None]}


def _prepend_text(call: reference.RefCall) -> None:
    """[N0 of each][P], in T5's tokens and in Llama's."""
    def joined(text: torch.Tensor, extra: list[torch.Tensor], dim: int, option: str) -> tuple[torch.Tensor, str]:
        extra = [e.to(text).expand(len(call.x), *e.shape[1:]) for e in extra]
        kinds = "".join(str(c) * e.shape[dim] for c, e in enumerate(extra)) + call.prompt(text.shape[dim], option)
        return torch.cat([*extra, text], dim), kinds

    call.conds["c_crossattn"], t5 = joined(call.conds["c_crossattn"], [n.tokens for n in call.negatives], 1,
                                          reference.TEXT)
    call.conds[_LLAMA], llama = joined(call.conds[_LLAMA], [n.options["conditioning_llama3"] for n in call.negatives], 2,
                                       "conditioning_llama3")
    call.options["reference_kinds"] = t5 + llama + llama


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[I][T5][last Llama][Llama of the block]."""
    beside = call.conds["image_cond"].shape[-1] if "image_cond" in call.conds else 0
    image = -(-call.x.shape[-2] // 2) * -(-(call.x.shape[-1] + beside) // 2)
    assert queries == keys == image + len(call.options["reference_kinds"])
    return ("I" * image + call.options["reference_kinds"],) * 2


def _picture(length: int, seed: int) -> dict[str, Any]:
    """HiDream-E1's picture to edit, which stands on the right of each of the image's rows."""
    return {**_options(length, seed), "concat_latent_image": torch.ones(1, 16, 8, 6)}


CASES = [Case("hidream-i1", "HiDream", _HIDREAM, (16, 8, 6), 24, options=_options, lengthen=_prepend_text, kinds=_kinds)]
E1 = dataclasses.replace(CASES[0], options=_picture)
