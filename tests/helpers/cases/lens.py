"""Lens (comfy/ldm/lens/model.py) and JoyImage (comfy/ldm/joyimage/model.py)."""
from __future__ import annotations

from typing import Any

import reference
import torch

from cases import Case

_LENS = dict(image_model="lens", in_channels=128, num_layers=2, attention_head_dim=32, num_attention_heads=2,
             enc_hidden_dim=24, axes_dims_rope=(8, 12, 12), selected_layer_index=(0, 1))
_JOYIMAGE = dict(image_model="joyimage", hidden_size=64, num_attention_heads=2, text_dim=24, mlp_width_ratio=2.0,
                 num_layers=2, rope_dim_list=[8, 12, 12])


def _padded(length: int, seed: int) -> dict[str, Any]:
    """The first token is padding."""
    return {"attention_mask": (torch.arange(length) > 0).long()[None]}


def _references(length: int, seed: int) -> dict[str, Any]:
    """Two pictures to edit."""
    generator = torch.Generator().manual_seed(7)
    return {"reference_latents": [torch.randn(1, 16, 1, h, w, generator=generator) for h, w in ((4, 6), (6, 8))]}


def _prepend_text(call: reference.RefCall) -> None:
    """[N0 of each][P]."""
    reference.append_text(call)
    positive, *negatives = call.conds["c_crossattn"].split(call.text, dim=1)
    call.conds["c_crossattn"] = torch.cat([*negatives, positive], dim=1)


def _image_first(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[I][P][N0 of each], in all of the model's attention."""
    kinds = "I" * (keys - len(call.text_kinds)) + call.text_kinds
    assert queries == keys
    return kinds, kinds


def _negatives_before_text(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[I][N0 of each][P], in all of the model's attention."""
    text = call.text_kinds[call.text[0]:] + call.prompt(call.text[0])
    kinds = "I" * (keys - len(text)) + text
    assert queries == keys
    return kinds, kinds


CASES = [
    Case("lens", "Lens", _LENS, (128, 4, 3), 48, kinds=_image_first, positions=True),
    Case("lens-masked", "Lens", _LENS, (128, 5, 3), 48, kinds=_image_first, positions=True, options=_padded),
    Case("joyimage", "JoyImage", _JOYIMAGE, (16, 1, 8, 6), 24, lengthen=_prepend_text, kinds=_negatives_before_text),
    Case("joyimage-edit", "JoyImage", _JOYIMAGE, (16, 1, 7, 6), 24, lengthen=_prepend_text, kinds=_negatives_before_text,
         options=_references),
]
