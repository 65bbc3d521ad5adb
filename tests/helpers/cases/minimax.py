"""MiniMax H3 and FastH3 (comfy/ldm/minimax/model.py).

The reference lets the model plan the positive's sequence alone, and puts the negatives at its END: hooks on the blocks do so
while the model runs. It refines them in ONE call, kept apart by its dense mask.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import reference
import torch
from comfy.patcher_extension import WrappersMP
from within import random

from cases import Case

_TEXT = 1  # the tag of text among a block's three modalities


class Tail:
    """The negatives of one call, behind the model's own tokens. kinds: of the attention that is about to come."""

    def __init__(self, tokens: list[torch.Tensor], positive: int) -> None:
        self.tokens, self.positive = tokens, positive
        self.own = "".join(str(c) * t.shape[1] for c, t in enumerate(tokens))
        self.kinds: str | None = None

    def forward(self, executor: Any, x: list[torch.Tensor], timestep: torch.Tensor, context: torch.Tensor,
                options: dict[str, Any], **kwargs: Any) -> Any:
        """A DIFFUSION_MODEL wrapper."""
        model = executor.class_obj
        self.kinds = self.own
        self.refined = model.token_refiner(model.condition_proj(torch.cat(self.tokens, 1)[0]), transformer_options=options)
        positions = torch.zeros(len(self.own), 3, dtype=torch.float64)
        positions[:, 0] = self.positive + torch.arange(len(self.own))
        angles = model.rope_freqs(positions, context.device)
        cos, sin = (f(angles[:, :angles.shape[1] // 2]).double() for f in (torch.cos, torch.sin))
        self.rotations = torch.stack([cos, -sin, sin, cos], -1).unflatten(-1, (2, 2))[None, :, None]
        with contextlib.ExitStack() as hooks:
            for i, block in enumerate(model.blocks):
                hooks.callback(block.register_forward_pre_hook(self.lengthen if i == 0 else self.known).remove)
            return executor(x, timestep, context, options, **kwargs)

    def lengthen(self, block: torch.nn.Module, args: tuple) -> tuple:
        x, *rest = args
        end = len(x)
        self.kinds = "P" * self.positive + "I" * (end - self.positive) + self.own
        return self.known(block, (torch.cat([x, self.refined]), *rest))

    def known(self, block: torch.nn.Module, args: tuple) -> tuple:
        x, times, rows, rotations = args
        end, (_, _, first) = len(x) - len(self.own), rows[0]
        own = (end, len(x), first // 3 * 3 + _TEXT)
        return x, times, [*rows, own], torch.cat([rotations, self.rotations], dim=1)


def _lengthen(call: reference.RefCall) -> None:
    if not call.negatives:
        return
    tail = Tail([n.tokens.double() for n in call.negatives], call.conds["c_crossattn"].shape[1])
    wrappers = call.options.get("wrappers", {})
    level = {**wrappers.get(WrappersMP.DIFFUSION_MODEL, {}), "reference": [tail.forward]}
    call.options.update(tail=tail, wrappers={**wrappers, WrappersMP.DIFFUSION_MODEL: level})


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    tail = call.options.get("tail")
    return None if tail is None else (tail.kinds, tail.kinds)


def _tags(length: int, picture: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Text, and the span of a prompt's tokens that a vision encoder made."""
    tags = torch.ones(length, dtype=torch.long)
    tags[slice(*picture)] = 0
    return {"minimax_token_tags": tags}


def _text(length: int, seed: int) -> dict[str, Any]:
    return _tags(length)


def _frames(*indices: int) -> Callable[[int, int], dict[str, Any]]:
    """First and last pictures of a video of 22 frames."""
    def options(length: int, seed: int) -> dict[str, Any]:
        frames = [{"resolved_frame_index": i, "latent": random(i, 1, 4, 1, 4, 6)} for i in indices]
        return {**_tags(length, (0, 2)), "minimax_keyframes": frames, "minimax_frame_count": 22}
    return options


def _picture() -> dict[str, Any]:
    return {"kind": "image", "latent_h": 2, "latent_w": 4, "latent": random(3, 1, 4, 1, 2, 4)}


def _sound() -> dict[str, Any]:
    return {"kind": "audio", "ref_audio_t": 3, "audio_latent": random(4, 1, 8, 2, 3)}


def _film(sound: int = 0) -> dict[str, Any]:
    return {"kind": "video_audio" if sound else "video", "latent_t": 2, "latent_h": 4, "latent_w": 2, "ref_audio_t": sound,
            "latent": random(5, 1, 4, 2, 4, 2), "audio_latent": random(6, 1, 8, 2, sound) if sound else None}


def _references(*blocks: dict[str, Any], **more: Any) -> Callable[[int, int], dict[str, Any]]:
    return lambda length, seed: {**_tags(length, (1, 3)), "minimax_refs": list(blocks), **more}


def _untagged(length: int, seed: int) -> dict[str, Any]:
    return {}


_H3 = dict(image_model="minimax_h3", hidden_size=64, num_layers=2, token_refiner_num_layers=2, num_attention_heads=2,
           attention_head_dim=32, ffn_hidden_size=48, latents_dim=4, audio_latents_dim=8, text_dim=24, timestep_input_dim=16,
           time_embed_hidden_size=32, time_embed_dim=24, rope_inv_freq_len=4)
_CURVES = _H3 | dict(adaln_curve_grid=9, time_embed_dim=6)
_LATENT = ((4, 7, 4, 6), (8, 2, 9))
_COMMON = dict(lengthen=_lengthen, kinds=_kinds, positions=True, no_mutants=frozenset(), most=1,
               no_branches="it takes one video at a time")

CASES = [
    Case("minimax-h3", "MiniMaxH3", _H3, _LATENT, 24, options=_text, **_COMMON),
    Case("minimax-h3-untagged", "MiniMaxH3", _H3, ((4, 2, 3, 5), (8, 2, 4)), 24, options=_untagged, **_COMMON),
    Case("minimax-h3-curves", "MiniMaxH3", _CURVES, _LATENT, 24, options=_text, **_COMMON),
    Case("minimax-h3-i2v", "MiniMaxH3", _H3, _LATENT, 24, options=_frames(0), **_COMMON),
    Case("minimax-h3-flf", "MiniMaxH3", _H3, _LATENT, 24, options=_frames(0, 21), **_COMMON),
    Case("minimax-h3-references", "MiniMaxH3", _H3, _LATENT, 24,
         options=_references(_picture(), _film(), _film(5), _sound(), minimax_visual_cond_noise_aug=0.9,
                             minimax_audio_cond_noise_aug=0.9), **_COMMON),
    Case("minimax-h3-reference-audio", "MiniMaxH3", _H3, _LATENT, 24, options=_references(_sound()), **_COMMON),
]
