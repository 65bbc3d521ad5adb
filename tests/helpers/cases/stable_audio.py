"""Stable Audio 1 and 3 (comfy/ldm/audio/dit.py)."""
from __future__ import annotations

import functools
import inspect
from typing import Any

import reference
import tiny
import torch
from comfy.ldm.audio.dit import Attention
from comfy.ldm.audio.embedders import NumberConditioner

from cases import NO_TEXT_QUERIES, Case

_DIT = dict(audio_model="dit1.0", embed_dim=64, cond_token_dim=32, depth=2, num_heads=2)
_FEAT_SCALE = {"feat_scale": True} if "feat_scale" in inspect.signature(Attention).parameters else {}  # it came later
_AUDIO1 = _DIT | dict(io_channels=64, global_cond_dim=64, attn_kwargs=dict(qk_norm="ln", **_FEAT_SCALE))
_AUDIO3 = _DIT | dict(io_channels=256, global_cond_dim=32, timestep_features_type="expo", global_cond_type="adaLN",
                      global_cond_shared_embed=True, norm_type="rms_norm", num_memory_tokens=3, local_add_cond_dim=257,
                      attn_kwargs=dict(qk_norm="rms", differential=True))


def _seconds(name: str, features: int) -> dict[str, torch.Tensor]:
    """A checkpoint's embedder of seconds, whose width ComfyUI fixes at 768."""
    embedding = f"conditioner.conditioners.{name}.embedder.embedding"
    return {f"{embedding}.1.weight": torch.zeros(768, features), f"{embedding}.1.bias": torch.zeros(768)}


_STATE1 = {f"conditioner.conditioners.{name}.embedder.embedding.0.weights": torch.zeros(128)
           for name in ("seconds_start", "seconds_total")} | _seconds("seconds_start", 257) | _seconds("seconds_total", 257)
_STATE3 = _seconds("seconds_total", 256) | {
    "conditioner.conditioners.prompt.padding_embedding": tiny.tokens(1, 3, width=32)[0, 0]}


_IN_TEXT = "reference_in_text"


def _append_text(call: reference.RefCall) -> None:
    reference.append_text(call)
    call.options[_IN_TEXT] = []


def _to_text(forward: Any, *args: Any, transformer_options: dict[str, Any], **kwargs: Any) -> torch.Tensor:
    """Cross-attention, which tells the reference that it runs: the model has no wrapper for the whole of its forward."""
    transformer_options[_IN_TEXT].append(True)
    out = forward(*args, transformer_options=transformer_options, **kwargs)
    transformer_options[_IN_TEXT].clear()
    return out


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    return ("I" * queries, call.text_kinds) if call.options[_IN_TEXT] else None


def _setup(base_model: Any) -> None:
    """Narrow embedders of seconds; the reference's cross-attention."""
    kind = base_model.model_config.unet_config.get("timestep_features_type", "learned")
    for name in ("seconds_start_embedder", "seconds_total_embedder"):
        if hasattr(base_model, name):
            embedder = NumberConditioner(32, 0, 512, *([] if kind == "learned" else [kind]))  # without kinds before 3
            tiny.randomise(embedder, seed=len(name))
            setattr(base_model, name, embedder)
    if base_model.get_dtype() == torch.float64:
        for layer in base_model.diffusion_model.transformer.layers:
            layer.cross_attn.forward = functools.partial(_to_text, layer.cross_attn.forward)


_COMMON = dict(no_mutants=NO_TEXT_QUERIES, setup=_setup, lengthen=_append_text, kinds=_kinds)
_COMMON3 = _COMMON | dict(since=(0, 27, 0))  # 0.24 samples no differential model of this size, with VSF or without

CASES = [
    # 12 tokens, as many as the prompt's 7, two of seconds, and a negative's 3
    Case("stable-audio", "StableAudio", _AUDIO1, (64, 11), 32, weight_scale=0.5, state=_STATE1,
         options=lambda length, seed: {"seconds_start": 1.0, "seconds_total": 5.0}, **_COMMON),
    # 260 tokens, as many as the prompt's 7, padded to 256, one of seconds, and a negative's 3
    Case("stable-audio-3", "StableAudio3", _AUDIO3, (256, 257), 32, weight_scale=0.6, state=_STATE3, **_COMMON3),
    Case("stable-audio-3-unpadded", "StableAudio3", _AUDIO3, (256, 9), 32, state=_seconds("seconds_total", 256), **_COMMON3),
]
