"""CogVideoX (comfy/ldm/cogvideo/model.py)."""
from __future__ import annotations

import reference

from cases import Case

# text of more and of fewer tokens than max_text_seq_length
_COGVIDEOX = dict(image_model="cogvideox", num_attention_heads=2, attention_head_dim=48, time_embed_dim=32, text_embed_dim=24,
                  num_layers=2, max_text_seq_length=7, sample_width=6, sample_height=4, sample_frames=9)
_ROTARY = dict(use_rotary_positional_embeddings=True)
_LEARNED = dict(use_learned_positional_embeddings=True)
_IMAGE_TO_VIDEO = dict(in_channels=32, patch_size_t=2, ofs_embed_dim=32)


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """[P][N0 of each][I], in all of the model's attention."""
    assert queries == keys
    return (call.text_kinds + "I" * (keys - len(call.text_kinds)),) * 2


CASES = [
    Case("cogvideox-2b", "CogVideoX_T2V", _COGVIDEOX, (16, 3, 4, 6), 24, kinds=_kinds),
    Case("cogvideox-2b-learned", "CogVideoX_T2V", _COGVIDEOX | _LEARNED, (16, 3, 4, 6), 24, kinds=_kinds),
    Case("cogvideox-5b", "CogVideoX_T2V", _COGVIDEOX | _ROTARY, (16, 3, 4, 6), 24, kinds=_kinds),
    Case("cogvideox-1.5-i2v", "CogVideoX_I2V", _COGVIDEOX | _ROTARY | _IMAGE_TO_VIDEO, (16, 4, 4, 6), 24, kinds=_kinds),
]
