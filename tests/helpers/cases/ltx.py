"""LTX-Video and LTX-2 (comfy/ldm/lightricks/model.py, av_model.py).

The tests' prompts and negatives have 10, 14, 19 and 32 tokens together; most cases have just as many of video or audio.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import reference
import torch
from within import random, text_attention

from cases import NO_TEXT_QUERIES, Case

_LTXV = dict(image_model="ltxv", in_channels=16, cross_attention_dim=48, attention_head_dim=24, num_attention_heads=2,
             caption_channels=24, num_layers=2)
_LTX2 = _LTXV | dict(image_model="ltxav", audio_cross_attention_dim=24, audio_attention_head_dim=12,
                     audio_num_attention_heads=2, rope_type="split", connector_attention_head_dim=12,
                     connector_num_attention_heads=2, connector_num_layers=1)
_LTX23 = _LTX2 | dict(caption_proj_before_connector=True, caption_projection_first_linear=False, cross_attention_adaln=True,
                      apply_gated_attention=True, connector_apply_gated_attention=True, connector_attention_head_dim=24,
                      audio_connector_attention_head_dim=12)
_LTX25 = _LTX23 | dict(ff_bias=False, use_keyframes_abs_pos_embedding=True)
_AUDIO_VIDEO = ((16, 2, 1, 7), (8, 10, 16))


def _masked(length: int, seed: int) -> dict[str, Any]:
    """A mask of a text's padding: its last two tokens."""
    return {"attention_mask": (torch.arange(length) < max(1, length - 2)).long()[None]}


def _guide(length: int, seed: int) -> dict[str, Any]:
    """4 frames and a guide of 1, at half strength, of which one token is masked: 19 tokens, and attention in two parts."""
    mask = torch.ones(1, 1, 5, 2, 2)
    mask[:, :, 4] = torch.tensor([[0.0, 0.0], [0.0, -1.0]])
    starts = torch.tensor([[0, 0, 0, 0], [0, 0, 32, 32], [0, 32, 0, 32]])
    return {**_masked(length, seed), "denoise_mask": mask, "keyframe_idxs": torch.stack([starts, starts + 8], -1)[None],
            "guide_attention_entries": [{"pre_filter_count": 4, "strength": 0.5}]}


def _unprocessed(length: int, seed: int) -> dict[str, Any]:
    return {"unprocessed_ltxav_embeds": True}


def _reference_audio(length: int, seed: int) -> dict[str, Any]:
    return {"ref_audio": {"tokens": random(3, 1, 4, 128)}}


def _append_connected(call: reference.RefCall) -> None:
    """[P][N0 of each], each negative by the two connectors, of whose 1024 rows its own are the first."""
    model = call.model.diffusion_model

    def connected(text: torch.Tensor) -> torch.Tensor:
        parts = [text, text] if text.shape[-1] == 24 else text.split([48, 24], dim=-1)
        connectors = model.video_embeddings_connector, model.audio_embeddings_connector
        return torch.cat([connect(part)[0][:, :text.shape[1]] for connect, part in zip(connectors, parts, strict=True)], dim=-1)

    call.negatives = [dataclasses.replace(n, tokens=connected(n.tokens.double())) for n in call.negatives]
    reference.append_text(call)


def _is_text(name: str) -> bool:
    return name.endswith("attn2")


_COMMON = dict(no_mutants=NO_TEXT_QUERIES, **text_attention(_is_text))
_CONNECTED = dict(no_mutants=NO_TEXT_QUERIES, positions=True, options=_unprocessed,
                  **text_attention(_is_text, append=_append_connected))

CASES = [
    Case("ltxv", "LTXV", _LTXV, (16, 2, 1, 5), 24, options=_masked, **_COMMON),
    Case("ltxv-guide", "LTXV", _LTXV, (16, 5, 2, 2), 24, options=_guide, **_COMMON),
    Case("ltx-2", "LTXAV", _LTX2, _AUDIO_VIDEO, 24, **_CONNECTED),
    Case("ltx-2-connected", "LTXAV", _LTX2, _AUDIO_VIDEO, 48, **_COMMON),
    Case("ltx-2-reference-audio", "LTXAV", _LTX2, ((16, 3, 1, 4), (8, 6, 16)), 48, options=_reference_audio, **_COMMON),
    Case("ltx-2-video-alone", "LTXAV", _LTX2, (16, 2, 1, 7), 48, **_COMMON),
    Case("ltx-2.3", "LTXAV", _LTX23, _AUDIO_VIDEO, 72, **_CONNECTED),
    Case("ltx-2.5", "LTXAV", _LTX25, _AUDIO_VIDEO, 72, since=(0, 32, 0), newer=True, **_CONNECTED),
]
