"""Wan 2.1 and 2.2 (comfy/ldm/wan/model.py)."""
from __future__ import annotations

import reference

from cases import NO_TEXT_QUERIES, Case

_T2V = dict(image_model="wan2.1", model_type="t2v", patch_size=(1, 2, 2), in_dim=16, dim=48, ffn_dim=64, freq_dim=32,
            text_dim=24, out_dim=16, num_heads=2, num_layers=2, cross_attn_norm=True)

CASES = [Case("wan2.1-t2v", "WAN21_T2V", _T2V, (16, 3, 4, 6), 24, kinds=reference.cross, no_mutants=NO_TEXT_QUERIES)]
