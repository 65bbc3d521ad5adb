"""Wan 2.1 and 2.2 with all their relatives (comfy/ldm/wan/model*.py): cross-attention of the video's tokens with the text,
which has no positions. VACE's own blocks see the text too.

Self-attention, CLIP vision (a call of its own before the text's) and HuMo's audio (16 keys a frame) are left alone, being
known by their number of keys: the text never gets that number. Other audio, music and faces do not pass here at all.
Animate 2 reads a text for its pose video too, which stays the positive's: what it makes of that serves all prompts of a run.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from torch import Tensor

from ....vsf_core.layout import Layout
from . import ModelCall, Settings
from .cross import cross_text

HUMO_AUDIO = 16


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    model, get = call.base_model.diffusion_model, call.conds.get
    patches = functools.partial(_patches, model.patch_size)
    if hasattr(model, "rope_encode_pose"):  # Animate 2
        call.conds.setdefault("context_pose", call.context)
    video = [patches(call.x) + patches(get("time_dim_concat")), patches(get("reference_latent")), patches(get("pose_latents")),
             sum(map(patches, get("context_latents") or ())), _framepack(get("reference_motion")), patches(call.x[:, :, :1])]
    seen = [get(name) for name in ("clip_fea", "clip_fea_ref", "clip_fea_pose", "context_pose")]
    others = [0 if t is None else t.shape[-2] for t in seen]
    return cross_text(call, tokens, negatives, _sums(video) | _sums(others) | {HUMO_AUDIO})


def _patches(patch_size: tuple[int, ...], latent: Tensor | None) -> int:
    axes = zip(latent.shape[:1:-1], patch_size[::-1], strict=False) if latent is not None else [(0, 1)]
    return math.prod(-(-length // size) for length, size in axes)


def _framepack(motion: Tensor | None) -> int:
    """Tokens that S2V's FramePackMotioner makes of the frames before: of 1, of 2 at half and of 16 at a quarter of the size."""
    if motion is None:
        return 0
    height, width = motion.shape[-2:]
    return sum(frames * (height // p) * (width // p) for frames, p in ((1, 2), (1, 4), (4, 8)))


def _sums(lengths: Iterable[int]) -> set[int]:
    """The sum of every selection: which conditions stand beside the video differs between the models."""
    return functools.reduce(lambda sums, n: sums | {n + s for s in sums}, lengths, {0})
