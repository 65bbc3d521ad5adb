"""PixArt alpha and sigma (comfy/ldm/pixart/pixartms.py)."""
from __future__ import annotations

from typing import Any

import reference

from cases import NO_TEXT_QUERIES, Case

_SIGMA = dict(image_model="pixart_sigma", patch_size=2, in_channels=4, hidden_size=48, depth=2, num_heads=2, mlp_ratio=2.0,
              caption_channels=24, model_max_length=300, micro_condition=False, pe_interpolation=1.0)
_ALPHA = _SIGMA | dict(image_model="pixart_alpha", micro_condition=True, model_max_length=120, pe_interpolation=None,
                       pe_precision=2)


def _see(base_model: Any) -> None:
    reference.see(base_model, [block.cross_attn for block in base_model.diffusion_model.blocks])


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    return "I" * queries, call.text_kinds


_COMMON = dict(setup=_see, kinds=_kinds, no_mutants=NO_TEXT_QUERIES)

CASES = [  # its positions want pictures of 512 pixels or more
    # 32 image tokens, as many as the prompt's 7 and two negatives' 12 and 13
    Case("pixart-alpha", "PixArtAlpha", _ALPHA, (4, 2, 64), 24, **_COMMON,
         options=lambda length, seed: {"width": 16, "height": 512}),
    Case("pixart-sigma", "PixArtSigma", _SIGMA, (4, 4, 64), 24, **_COMMON),
]
