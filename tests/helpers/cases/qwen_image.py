"""Qwen-Image and Qwen-Image-Edit (comfy/ldm/qwen_image/model.py), Mage-Flow (comfy/ldm/mage_flow/model.py)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cases import Case

_QWEN = dict(image_model="qwen_image", num_layers=2, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=24,
             axes_dims_rope=(8, 12, 12))
_MAGE = dict(image_model="mage_flow", in_channels=128, out_channels=128, num_layers=2, attention_head_dim=32,
             num_attention_heads=2, joint_attention_dim=24, axes_dims_rope=(8, 12, 12))
_LATENT, _PACKED = (16, 1, 8, 6), (128, 4, 3)


def _padded(length: int, seed: int) -> dict[str, Any]:
    """The second token and the last are padding."""
    return {"attention_mask": torch.tensor([[1, 0] + [1] * (length - 3) + [0]])}


def _edit(*shapes: tuple[int, ...], method: str | None = None, **more: Any) -> Callable[[int, int], dict[str, Any]]:
    """Pictures to edit."""
    def options(length: int, seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(7)
        chosen = {} if method is None else {"reference_latents_method": method}
        return {"reference_latents": [torch.randn(1, *shape, generator=generator) for shape in shapes], **chosen, **more}
    return options


_PICTURES = (16, 1, 4, 6), (16, 1, 6, 7)

CASES = [
    Case("qwen-image", "QwenImage", _QWEN, _LATENT, 24, positions=True),
    Case("qwen-image-masked", "QwenImage", _QWEN, _LATENT, 24, positions=True, options=_padded),
    *(Case(f"qwen-image-edit-{method.replace('_', '-')}", "QwenImage", _QWEN, _LATENT, 24, positions=True,
           options=_edit(*_PICTURES, method=method))
      for method in ("index", "negative_index", "index_timestep_zero", "offset")),
    Case("qwen-image-edit-2511", "QwenImage", _QWEN | dict(default_ref_method="index_timestep_zero"), _LATENT, 24,
         positions=True, options=lambda length, seed: _edit(*_PICTURES)(length, seed) | _padded(length, seed)),
    Case("mage-flow", "MageFlow", _MAGE, _PACKED, 24),
    Case("mage-flow-edit", "MageFlow", _MAGE, _PACKED, 24,
         options=lambda length, seed: _edit((128, 3, 3))(length, seed) | _padded(length, seed)),
]
