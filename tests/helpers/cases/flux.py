"""Flux.2 and its relatives (comfy/ldm/flux/model.py)."""
from __future__ import annotations

from cases import Case

_FLUX2 = dict(image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=24, hidden_size=64,
              mlp_ratio=2.0, num_heads=2, depth=2, depth_single_blocks=2, axes_dim=[8, 8, 8, 8], theta=10000, patch_size=1,
              qkv_bias=False, guidance_embed=True, txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True, ops_bias=False)

CASES = [Case("flux2", "Flux2", _FLUX2, (128, 4, 3), 24, positions=True, options=lambda length, seed: {"guidance": 3.0})]
