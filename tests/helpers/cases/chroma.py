"""Chroma (comfy/ldm/chroma/model.py) and Chroma Radiance (comfy/ldm/chroma_radiance/model.py)."""
from __future__ import annotations

import reference
from comfy.ldm.chroma_radiance.model import ChromaRadianceParams

from cases import Case

_CHROMA = dict(image_model="chroma", in_channels=64, out_channels=64, context_in_dim=24, hidden_size=64, mlp_ratio=2.0,
               num_heads=2, depth=2, depth_single_blocks=2, axes_dim=[8, 12, 12], theta=10000, patch_size=2, qkv_bias=True,
               in_dim=64, out_dim=64, hidden_dim=32, n_layers=1, txt_ids_dims=[], vec_in_dim=None)
_RADIANCE = _CHROMA | dict(image_model="chroma_radiance", in_channels=3, out_channels=3, patch_size=4, nerf_hidden_size=8,
                           nerf_mlp_ratio=2, nerf_depth=1, nerf_max_freqs=4, nerf_tile_size=0, nerf_final_head_type="conv",
                           nerf_embedder_dtype=None, use_x0=False)
if "use_sequential_txt_ids" in ChromaRadianceParams.__dataclass_fields__:  # not before ComfyUI 0.24
    _RADIANCE["use_sequential_txt_ids"] = False
_PIXELS = (3, 16, 12)


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[P][N0 of each][I], in all of the model's attention."""
    return tuple(call.text_kinds + "I" * (n - len(call.text_kinds)) for n in (queries, keys))


CASES = [
    Case("chroma", "Chroma", _CHROMA, (16, 8, 6), 24),
    Case("chroma-radiance", "ChromaRadiance", _RADIANCE, _PIXELS, 24, kinds=_kinds),
]
if "use_sequential_txt_ids" in _RADIANCE:
    CASES.append(Case("chroma-radiance-x0-sequential", "ChromaRadiance",
                      _RADIANCE | dict(use_x0=True, use_sequential_txt_ids=True), _PIXELS, 24, kinds=_kinds, positions=True))
