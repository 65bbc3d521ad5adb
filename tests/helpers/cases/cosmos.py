"""Cosmos 1, Cosmos-Predict2 and Anima (comfy/ldm/cosmos/model.py, comfy/ldm/cosmos/predict2.py, comfy/ldm/anima/model.py).

The tests' prompts and negatives have 10, 14, 19 and 32 tokens together; most cases have just as many in the picture.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import comfy.ldm.anima.model
import comfy.ops
import reference
import tiny
import torch
from within import text_attention

from cases import NO_TEXT_QUERIES, Case

_COSMOS = dict(max_img_h=16, max_img_w=16, max_frames=8, in_channels=16, out_channels=16, patch_spatial=2, patch_temporal=1,
               model_channels=48, num_blocks=2, num_heads=2, mlp_ratio=2.0, crossattn_emb_channels=24, pos_emb_cls="rope3d",
               use_adaln_lora=True, adaln_lora_dim=16)
_COSMOS1 = _COSMOS | dict(image_model="cosmos", block_config="FA-CA-MLP", block_x_format="THWBD", affline_emb_norm=True,
                          extra_per_block_abs_pos_emb=True, extra_per_block_abs_pos_emb_type="learnable")
_PREDICT2 = _COSMOS | dict(image_model="cosmos_predict2", pos_emb_learnable=True)


def _masked(length: int, seed: int) -> dict[str, Any]:
    """A mask of a text's padding, which the model ignores; a frame rate."""
    return {"attention_mask": (torch.arange(length) < max(1, length - 2)).long()[None], "frame_rate": 24}


def _ids(length: int, seed: int) -> dict[str, Any]:
    """T5's ids of the same words, one less than the language model's, and their weights."""
    g = torch.Generator().manual_seed(seed + 2000)
    return {"t5xxl_ids": torch.randint(0, 32, (length - 1,), generator=g, dtype=torch.int),
            "t5xxl_weights": 0.8 + 0.4 * torch.rand(length - 1, generator=g)}


def _small_adapter(base_model: Any) -> None:
    """Anima's adapter, whose size the model fixes at 133 million weights, for fewer channels."""
    model = base_model.diffusion_model
    model.llm_adapter = comfy.ldm.anima.model.LLMAdapter(24, 24, 32, num_layers=2, num_heads=2, dtype=base_model.get_dtype(),
                                                         operations=comfy.ops.disable_weight_init)
    tiny.randomise(model.llm_adapter)


def _append_adapted(call: reference.RefCall) -> None:
    """[P][zeros up to 512][N0 of each], all but the zeros by the adapter."""
    adapter = call.model.diffusion_model.llm_adapter

    def adapted(text: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return adapter(text.double(), ids) * weights.double()

    if "t5xxl_ids" in call.conds:
        text = adapted(call.conds["c_crossattn"], call.conds.pop("t5xxl_ids"), call.conds.pop("t5xxl_weights"))
        call.conds["c_crossattn"] = torch.cat([text, text.new_zeros(len(text), 512 - text.shape[1], 24)], dim=1)
    call.negatives = [dataclasses.replace(n, tokens=adapted(n.tokens, n.options["t5xxl_ids"][None],
                                                            n.options["t5xxl_weights"][None, :, None]))
                      for n in call.negatives]
    if call.words:  # the adapter's tokens are T5's
        call.words = {reference.TEXT: call.words["t5xxl_ids"]}
    reference.append_text(call)


_COMMON = dict(no_mutants=NO_TEXT_QUERIES, **text_attention(lambda name: name.endswith(("cross_attn", "blocks.1.block.attn"))))
_ADAPTED = dict(no_mutants=NO_TEXT_QUERIES, positions=True, options=_ids, setup=_small_adapter,
                **text_attention(lambda name: name.endswith("cross_attn") and "adapter" not in name, append=_append_adapted))

CASES = [
    Case("cosmos", "CosmosT2V", _COSMOS1, (16, 2, 2, 10), 24, options=_masked, **_COMMON),
    Case("cosmos-i2v", "CosmosI2V", _COSMOS1 | dict(in_channels=17), (16, 2, 4, 8), 24, **_COMMON),
    Case("cosmos-predict2", "CosmosT2IPredict2", _PREDICT2, (16, 1, 2, 19), 24, **_COMMON),
    Case("cosmos-predict2-i2v", "CosmosI2VPredict2", _PREDICT2 | dict(in_channels=17, extra_per_block_abs_pos_emb=True),
         (16, 2, 2, 14), 24, options=lambda length, seed: {"denoise_mask": torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1, 1)},
         **_COMMON),
    Case("anima", "Anima", _PREDICT2 | dict(image_model="anima"), (16, 1, 4, 6), 24, **_ADAPTED),
]
