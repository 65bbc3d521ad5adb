"""SD3 and SD3.5 (comfy/ldm/modules/diffusionmodules/mmdit.py)."""
from __future__ import annotations

from typing import Any

import reference
import tiny

from cases import Case

_SD3 = dict(input_size=None, pos_embed_max_size=16, num_patches=256, patch_size=2, in_channels=16, depth=2, adm_in_channels=32,
            qk_norm="rms", context_embedder_config={"target": "torch.nn.Linear",
                                                    "params": {"in_features": 24, "out_features": 128}})
_REGISTERS = 3


def _pooled(length: int, seed: int) -> dict[str, Any]:
    return {"pooled_output": tiny.tokens(1, seed + 1000, width=32)[0]}


def _registers(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[registers][P][N0 of each][I], in all of the model's attention."""
    text = "B" * _REGISTERS + call.text_kinds
    assert queries == keys
    return (text + "I" * (keys - len(text)),) * 2


CASES = [
    Case("sd3", "SD3", _SD3, (16, 8, 6), 24, options=_pooled),
    Case("sd3.5-medium", "SD3", _SD3 | dict(x_block_self_attn_layers=[0]), (16, 8, 6), 24, options=_pooled),
    Case("sd3-registers", "SD3", _SD3 | dict(register_length=_REGISTERS), (16, 8, 6), 24, options=_pooled, kinds=_registers),
]
