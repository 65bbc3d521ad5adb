"""Qwen-Image (comfy/ldm/qwen_image/model.py)."""
from __future__ import annotations

from cases import Case

_QWEN = dict(image_model="qwen_image", num_layers=2, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=24,
             axes_dims_rope=(8, 12, 12))

CASES = [Case("qwen-image", "QwenImage", _QWEN, (16, 1, 8, 6), 24, positions=True)]
