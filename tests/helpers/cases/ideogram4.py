"""Ideogram 4 (comfy/ldm/ideogram4/model.py)."""
from __future__ import annotations

from typing import Any

import torch

from cases import Case

_IDEOGRAM4 = dict(image_model="ideogram4", in_channels=128, num_layers=2, num_attention_heads=2, attention_head_dim=32,
                  intermediate_size=64, adaln_dim=32, llm_features_dim=24, mrope_section=(6, 5, 5))


def _padded(length: int, seed: int) -> dict[str, Any]:
    """The last two tokens are padding."""
    return {"attention_mask": (torch.arange(length) < length - 2).long()[None]}


CASES = [
    Case("ideogram4", "Ideogram4", _IDEOGRAM4, (128, 4, 3), 24, positions=True),
    Case("ideogram4-masked", "Ideogram4", _IDEOGRAM4, (128, 4, 3), 24, positions=True, options=_padded,
         no_mutants=frozenset({"a text refiner mixes prompt and negative", "each branch has its own padding"})),
]
