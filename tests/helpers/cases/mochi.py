"""Mochi (comfy/ldm/genmo/joint_model/asymm_models_joint.py)."""
from __future__ import annotations

from typing import Any

import reference
import torch

from cases import Case

# its blocks insist on a hidden size of 12288 in the MLP
_MOCHI = dict(image_model="mochi_preview", depth=2, patch_size=2, num_heads=2, hidden_size_x=32, hidden_size_y=24,
              mlp_ratio_x=384.0, mlp_ratio_y=2.0, learn_sigma=False, in_channels=12, qk_norm=True, qkv_bias=False,
              out_bias=True, attn_drop=0.0, patch_embed_bias=True, posenc_preserve_area=True, timestep_mlp_bias=True,
              attend_to_padding=False, timestep_scale=1000.0, use_t5=True, t5_feat_dim=24, t5_token_length=256,
              rope_theta=10000.0)


def _padded(length: int, seed: int) -> dict[str, Any]:
    """The last two tokens are padding."""
    return {"attention_mask": (torch.arange(length) < length - 2).long()[None]}


def _all_words(length: int, seed: int) -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, length, dtype=torch.long)}


def _prepend_text(call: reference.RefCall) -> None:
    """[N0 of each][P][padding], of which the model keeps all but the padding; the mask, of what is pooled, has P alone."""
    extra = [n.tokens.to(call.conds["c_crossattn"]).expand(len(call.x), -1, -1) for n in call.negatives]
    call.text = [call.conds["num_tokens"], *(e.shape[1] for e in extra)]
    call.conds["c_crossattn"] = torch.cat([*extra, call.conds["c_crossattn"]], dim=1)
    call.conds["attention_mask"] = torch.nn.functional.pad(call.conds["attention_mask"], (sum(call.text[1:]), 0))
    call.conds["num_tokens"] = sum(call.text)


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[I][N0 of each][P], in all of the model's attention."""
    text = call.text_kinds[call.text[0]:] + call.prompt(call.text[0])
    assert queries == keys
    return ("I" * (keys - len(text)) + text,) * 2


CASES = [
    Case("mochi", "GenmoMochi", _MOCHI, (12, 2, 4, 6), 24, options=_padded, of_the_prompt=("t5_y_embedder",),
         no_mutants=frozenset({"a text refiner mixes prompt and negative", "each branch has its own padding"}),
         lengthen=_prepend_text, kinds=_kinds),
    Case("mochi-unpadded", "GenmoMochi", _MOCHI, (12, 2, 4, 6), 24, options=_all_words, of_the_prompt=("t5_y_embedder",),
         lengthen=_prepend_text, kinds=_kinds),
]
