"""LTX-Video and LTX-2 (comfy/ldm/lightricks/model.py, av_model.py): cross-attention with the text, which has no positions
there: of the video's tokens and, in LTX-2, of the audio's too (attn2, audio_attn2). Self-attention and that between video
and audio are left alone, being known by their number of keys: the text never gets that number. An attention mask stays
the prompt's own.

LTX-2 lets a prompt pass through connectors of its own, in which it has positions and is filled up to 1024 by learned
registers. So does each negative; of what comes out, its own rows are used, and not the registers'.
"""
from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ....vsf_core.layout import Layout
from ..reading.conditioning import NegativePrompt
from . import TEXT, Encoded, ModelCall, Settings
from .cross import cross_text


def encode(base_model: Any, prompt: NegativePrompt) -> Encoded:
    """What LTXAV.extra_conds does, but for the registers' rows; the tokens as they are in LTX-Video."""
    model, tokens = base_model.diffusion_model, prompt.tokens
    if not hasattr(model, "preprocess_text_embeds"):
        return {TEXT: tokens}
    audio_video = model.cross_attention_dim + model.audio_cross_attention_dim
    if tokens.shape[-1] not in (model.caption_channels, 2 * model.caption_channels, audio_video):
        raise ValueError("VSF: encode the negative with the text encoder (CLIP) of this model. Expected a negative of width "
                         f"{model.caption_channels} or {audio_video}, found {tokens.shape[-1]}.")
    text = model.preprocess_text_embeds(tokens.to(base_model.device, base_model.get_dtype_inference()),
                                        unprocessed=prompt.options.get("unprocessed_ltxav_embeds", False))
    return {TEXT: text[:, :tokens.shape[1]]}


def lengthen(call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
    shapes = call.conds.get("latent_shapes") or ()
    video, *audio = shapes if len(shapes) > 1 else [call.x.shape]  # several are packed into one x
    reference = call.conds.get("ref_audio")
    before = 0 if reference is None else reference["tokens"].shape[1]
    taken = {math.prod(video[2:]) - _left_out(call), *(before + shape[2] for shape in audio)}
    return cross_text(call, tokens, negatives, taken)


def _left_out(call: ModelCall) -> int:
    """How many of the video's tokens the model leaves out: where there are guides (keyframes), those masked below zero."""
    guides, mask = call.conds.get("keyframe_idxs"), call.conds.get("denoise_mask")
    return 0 if guides is None or mask is None else int((mask[0] < 0).any(dim=0).sum())
