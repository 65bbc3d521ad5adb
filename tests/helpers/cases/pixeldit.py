"""PixelDiT (comfy/ldm/pixeldit/model.py) and PiD (comfy/ldm/pixeldit/pid.py)."""
from __future__ import annotations

from typing import Any

import reference
import torch

from cases import Case

# fewer positions than the prompts have words: these are cut, and full like the text encoder's padded ones
_PIXELDIT = dict(image_model="pixeldit_t2i", num_groups=2, hidden_size=64, pixel_hidden_size=8, pixel_attn_hidden_size=32,
                 pixel_num_groups=2, patch_depth=2, pixel_depth=1, patch_size=4, txt_embed_dim=24, txt_max_length=6)
_PID = _PIXELDIT | dict(image_model="pid", lq_latent_channels=4, lq_hidden_dim=8, lq_num_res_blocks=1, lq_interval=1,
                        latent_spatial_down_factor=4, pit_lq_inject=True, rope_ref_h=16, rope_ref_w=16)


def _low_quality(length: int, seed: int) -> dict[str, Any]:
    """A latent to decode."""
    return {"lq_latent": torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(7)),
            "degrade_sigma": torch.tensor([0.4])}


def _append_text(call: reference.RefCall) -> None:
    """[P][N0 of each], each cut to the positions that there are, in a model that has these once for each of them."""
    model = call.model.diffusion_model
    parts = [call.conds["c_crossattn"], *(n.tokens.expand(len(call.x), -1, -1) for n in call.negatives)]
    parts = [part[:, :_PIXELDIT["txt_max_length"]] for part in parts]
    call.text = [part.shape[1] for part in parts]
    call.conds["c_crossattn"] = torch.cat(parts, dim=1)
    if not hasattr(model, "reference_positions"):
        model.reference_positions = model.y_pos_embedding.data, model._fetch_text_pos
    learned, rotations = model.reference_positions
    order = [position for length in call.text for position in range(length)]
    model.txt_max_length = len(order)
    model.y_pos_embedding.data = learned[:, order]
    model._fetch_text_pos = lambda length, device, dtype: rotations(length, device, dtype)[order]


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    """[P][N0 of each][I] in patch blocks; pixel blocks have the image alone."""
    image = keys - len(call.text_kinds)
    return (call.text_kinds + "I" * image,) * 2 if keys > 12 else None


_COMMON = dict(positions=True, lengthen=_append_text, kinds=_kinds)

CASES = [
    Case("pixeldit", "PixelDiTT2I", _PIXELDIT, (3, 16, 12), 24, **_COMMON),
    Case("pid", "PiD", _PID, (3, 15, 10), 24, options=_low_quality, **_COMMON,
         since=(0, 30, 0)),
]
