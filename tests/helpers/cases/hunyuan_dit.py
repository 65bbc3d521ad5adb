"""Hunyuan-DiT (comfy/ldm/hydit/models.py)."""
from __future__ import annotations

from typing import Any

import reference
import tiny
import torch

from cases import NO_TEXT_QUERIES, Case

_HYDIT = dict(image_model="hydit", patch_size=2, hidden_size=64, depth=4, num_heads=2, mlp_ratio=2.0, text_states_dim=24,
              text_states_dim_t5=40, text_len=3, text_len_t5=4, attn_precision=None)
_MT5 = "encoder_hidden_states_t5"


def _options(length: int, seed: int) -> dict[str, Any]:
    """mT5 has more tokens than CLIP; the last token of each is padding."""
    def mask(n: int) -> torch.Tensor:
        return (torch.arange(n) < n - 1).float()[None]

    return {"attention_mask": mask(length), "attention_mask_mt5xl": mask(length + 4),
            "conditioning_mt5xl": tiny.tokens(length + 4, seed + 2000, width=40)}


def _see(base_model: Any) -> None:
    """In the reference's model: see its attention, and put into every block's text what `_append_text` leaves there."""
    model = base_model.diffusion_model
    reference.see(base_model, [block.attn2 for block in model.blocks])
    if base_model.get_dtype() == torch.float64:
        model.negatives = []
        for block in model.blocks:
            def lengthened(x: torch.Tensor, c: Any, text: torch.Tensor, *rest: Any, forward: Any = block.forward) -> Any:
                return forward(x, c, torch.cat([text, *model.negatives], dim=1), *rest)
            block.forward = lengthened


def _append_text(call: reference.RefCall) -> None:
    """[P's CLIP][P's mT5], and behind them [CLIP][mT5] of each negative."""
    model = call.model.diffusion_model
    prompt = call.conds["c_crossattn"]
    rows = [(n.tokens.double(), n.options["conditioning_mt5xl"].double()) for n in call.negatives]
    model.negatives = [torch.cat([clip, model.mlp_t5(mt5)], dim=1).expand(len(call.x), -1, -1) for clip, mt5 in rows]
    call.text = [prompt.shape[1] + call.conds[_MT5].shape[1], *(n.shape[1] for n in model.negatives)]


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    mt5 = call.conds[_MT5].shape[1]
    prompt = call.prompt(call.text[0] - mt5) + call.prompt(mt5, "conditioning_mt5xl")
    return "I" * queries, prompt + call.text_kinds[call.text[0]:]


_COMMON = dict(options=_options, setup=_see, lengthen=_append_text, kinds=_kinds, no_mutants=NO_TEXT_QUERIES,
               of_the_prompt=("pooler",))

CASES = [
    # 28 image tokens, as many as the prompt's 7 + 11 and a negative's 3 + 7
    Case("hunyuan-dit", "HunyuanDiT", _HYDIT, (4, 8, 14), 24, **_COMMON),
    Case("hunyuan-dit-1.0", "HunyuanDiT1", _HYDIT | dict(image_model="hydit1", size_cond=True, use_style_cond=True), (4, 8, 6),
         24, **_COMMON),
]
