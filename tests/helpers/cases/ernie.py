"""Ernie-Image (comfy/ldm/ernie/model.py)."""
from __future__ import annotations

from typing import Any

import reference
import torch

from cases import Case

_ERNIE = dict(image_model="ernie", hidden_size=64, num_attention_heads=2, num_layers=2, ffn_hidden_size=96, text_in_dim=24,
              rope_axes_dim=(8, 12, 12))


def _see(base_model: Any) -> None:
    """In the reference's model: see its attention, and let its positions be changed by what `_append_text` leaves there."""
    reference.see(base_model, [layer.self_attention for layer in base_model.diffusion_model.layers])
    if base_model.get_dtype() == torch.float64:
        embed = base_model.diffusion_model.pos_embed
        rotations = embed.forward
        embed.forward = lambda ids: rotations(embed.change(ids))


def _append_text(call: reference.RefCall) -> None:
    """[I][P][N0 of each]; the image's first axis is where the prompt ends."""
    reference.append_text(call)

    def change(ids: torch.Tensor) -> torch.Tensor:
        ids = ids.clone()
        ids[:, :-sum(call.text), 0] = call.text[0]
        return ids

    call.model.diffusion_model.pos_embed.change = change


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[I][P][N0 of each], in all of the model's attention."""
    assert queries == keys
    return ("I" * (keys - len(call.text_kinds)) + call.text_kinds,) * 2


CASES = [Case("ernie-image", "ErnieImage", _ERNIE, (128, 4, 3), 24, positions=True, setup=_see, lengthen=_append_text,
              kinds=_kinds)]
