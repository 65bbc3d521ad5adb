"""ACE-Step 1.5 (comfy/ldm/ace/ace_step15.py)."""
from __future__ import annotations

import inspect
from typing import Any

import reference
import tiny
import torch
from comfy.ldm.ace.ace_step15 import AceStepConditionGenerationModel

from cases import NO_TEXT_QUERIES, Case

# heads of 64: its pooler wants 16 heads in the encoder's width
_ACE15 = dict(audio_model="ace1.5", hidden_size=64, text_hidden_dim=24, num_dit_layers=2, num_lyric_layers=1,
              num_timbre_layers=1, num_tokenizer_layers=1, num_heads=4, num_kv_heads=2, head_dim=16, intermediate_size=96,
              fsq_dim=64, encoder_hidden_size=64, encoder_intermediate_size=96, encoder_num_heads=4, sliding_window=4)
_KNOWN = inspect.signature(AceStepConditionGenerationModel).parameters
_ACE15 = {name: value for name, value in _ACE15.items() if name in {*_KNOWN, "audio_model"}}  # encoder_* came later


def _lyrics(length: int, seed: int) -> dict[str, Any]:
    return {"conditioning_lyrics": tiny.tokens(6, seed + 3000, width=24)}


def _codes(length: int, seed: int) -> dict[str, Any]:
    """A melody that the text encoder composed."""
    return _lyrics(length, seed) | {"audio_codes": [[3, 5, 8, 13]]}


def _cover(length: int, seed: int) -> dict[str, Any]:
    """Another's voice."""
    return _lyrics(length, seed) | {"reference_audio_timbre_latents": [
        torch.randn(1, 64, 40, generator=torch.Generator().manual_seed(7))]}


def _see(base_model: Any) -> None:
    reference.see(base_model, [layer.cross_attn for layer in base_model.diffusion_model.decoder.layers])


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """Sound with [lyrics][timbre: one of each row of the batch][P][N0 of each]."""
    return "I" * queries, "B" * (6 + len(call.x) // call.branches) + call.text_kinds


_COMMON = dict(setup=_see, kinds=_kinds, no_mutants=NO_TEXT_QUERIES, of_the_prompt=("encoder.timbre_encoder",))

CASES = [
    # 18 tokens of sound, as many as the prompt's 15 and a negative's 3
    Case("ace-step-1.5", "ACEStep15", _ACE15, (64, 35), 24, options=_lyrics, **_COMMON),
    Case("ace-step-1.5-codes", "ACEStep15", _ACE15, (64, 37), 24, options=_codes, **_COMMON),
    Case("ace-step-1.5-cover", "ACEStep15", _ACE15, (64, 37), 24, options=_cover, **_COMMON),
]
