"""Wan 2.1 and 2.2 with all their relatives (comfy/ldm/wan/model*.py).

The tests' prompts and negatives have 10, 14, 19 and 32 tokens together. But for the first, every case has just as many
tokens in another attention, which must not be taken for the text's.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import comfy.ldm.wan.model
import comfy.ops
import reference
import tiny
import torch
from within import random, text_attention

from cases import NO_TEXT_QUERIES, Case

_WAN = dict(image_model="wan2.1", model_type="t2v", patch_size=(1, 2, 2), in_dim=16, dim=48, ffn_dim=64, freq_dim=32,
            text_dim=24, out_dim=16, num_heads=2, num_layers=2, cross_attn_norm=True)
_I2V = _WAN | dict(model_type="i2v", in_dim=36)


def _image_attentions(call: reference.RefCall) -> int:
    """Image-to-video blocks attend to CLIP vision before the text."""
    return int(call.model.diffusion_model.img_emb is not None and "clip_fea" in call.conds)


def _animate2(call: reference.RefCall) -> None:
    """The pose branch reads the prompt alone; its attention is told from the video's by the method that it is made in."""
    call.conds.setdefault("context_pose", call.conds["c_crossattn"])
    reference.append_text(call)

    def forward_pose(block: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        call.options["in_pose"] = True
        try:
            return type(block).forward_pose(block, *args, **kwargs)
        finally:
            call.options["in_pose"] = False

    for block in call.model.diffusion_model.blocks:
        block.forward_pose = functools.partial(forward_pose, block)


def _not_of_the_text(call: reference.RefCall) -> int:
    return 2 if call.options.get("in_pose") else _image_attentions(call)


_COMMON = dict(no_mutants=NO_TEXT_QUERIES,
               **text_attention(lambda name: name.endswith("cross_attn") and "audio" not in name, _image_attentions))
_ANIMATE2 = dict(no_mutants=NO_TEXT_QUERIES, newer=True,
                 **text_attention(lambda name: name.endswith("cross_attn"), _not_of_the_text, _animate2))


def _options(**options: Any) -> Callable[[int, int], dict[str, Any]]:
    return lambda length, seed: options


def _vision(tokens: int) -> SimpleNamespace:
    return SimpleNamespace(penultimate_hidden_states=random(1, 1, tokens, 1280))


def _small_audio(base_model: Any) -> None:
    """HuMo's audio projection, whose size the model fixes at 39 million weights, for fewer channels."""
    model = base_model.diffusion_model
    model.audio_proj = comfy.ldm.wan.model.AudioProjModel(
        seq_len=2, blocks=3, channels=4, intermediate_dim=8, output_dim=1536, context_tokens=16,
        dtype=base_model.get_dtype(), operations=comfy.ops.disable_weight_init)
    tiny.randomise(model.audio_proj)


class _Motion(torch.nn.Module):
    """In place of Animate's motion and face encoders, of 38 million weights: pixels to 5 tokens of face a latent frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def get_motion(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)[:, :self.dim]

    def forward(self, motion: torch.Tensor) -> torch.Tensor:
        return torch.stack([motion[:, ::4] * (i + 1) for i in range(5)], dim=2)


def _small_face(base_model: Any) -> None:
    model = base_model.diffusion_model
    model.motion_encoder = model.face_encoder = _Motion(model.dim)


_DENOISE = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1, 1).expand(1, 48, 2, 2, 10)
_S2V = dict(model_type="s2v", audio_dim=12, num_audio_token=2, audio_inject_layers=[0, 1])
_DANCER = dict(model_type="wandancer", audio_inject_layers=[0], music_dim=16, music_heads=2, music_latent_dim=16)

CASES = [
    Case("wan2.1-t2v", "WAN21_T2V", _WAN, (16, 3, 4, 6), 24, **_COMMON),
    Case("wan2.1-phantom", "WAN21_T2V", _WAN, (16, 4, 4, 4), 24, options=_options(time_dim_concat=random(2, 1, 16, 4, 4, 4)),
         **_COMMON),
    Case("wan2.1-bernini", "WAN21_T2V", _WAN, (16, 2, 4, 4), 24,
         options=_options(context_latents=[random(3, 1, 16, 1, 4, 4), random(3, 1, 16, 1, 2, 4)]), **_COMMON),
    Case("wan2.1-i2v", "WAN21_I2V", _I2V, (16, 3, 4, 6), 24, options=_options(clip_vision_output=_vision(10)), **_COMMON),
    Case("wan2.1-i2v-no-vision", "WAN21_I2V", _I2V, (16, 1, 2, 38), 24, **_COMMON),
    Case("wan2.1-flf", "WAN21_I2V", _I2V | dict(flf_pos_embed_token_number=14), (16, 3, 4, 6), 24,
         options=_options(clip_vision_output=_vision(14)), **_COMMON),
    Case("wan2.1-fun-control", "WAN21_FunControl2V", _I2V | dict(in_dim=48, in_dim_ref_conv=16), (16, 1, 2, 10), 24,
         options=_options(reference_latents=[random(4, 1, 16, 1, 2, 10)], clip_vision_output=_vision(19)), **_COMMON),
    Case("wan2.1-camera", "WAN21_Camera", _I2V | dict(model_type="camera", in_dim=32), (16, 2, 2, 14), 24,
         options=_options(camera_conditions=random(5, 1, 24, 2, 16, 112), clip_vision_output=_vision(10)), **_COMMON),
    Case("wan2.2-camera", "WAN22_Camera", _I2V | dict(model_type="camera_2.2"), (16, 2, 2, 14), 24,
         options=_options(camera_conditions=random(5, 1, 24, 2, 16, 112)), **_COMMON),
    Case("wan2.1-vace", "WAN21_Vace", _WAN | dict(model_type="vace", vace_layers=2, vace_in_dim=96), (16, 2, 2, 10), 24,
         options=_options(vace_frames=[random(6, 1, 32, 2, 2, 10)], vace_mask=[random(7, 1, 64, 2, 2, 10)],
                          vace_strength=[0.8]), **_COMMON),
    Case("wan2.1-humo", "WAN21_HuMo", _WAN | dict(model_type="humo"), (16, 1, 2, 10), 24, setup=_small_audio,
         options=_options(reference_latents=[random(8, 1, 16, 1, 2, 10)], audio_embed=random(8, 1, 1, 2, 3, 4)), **_COMMON),
    Case("wan2.1-scail", "WAN21_SCAIL", _WAN | dict(model_type="scail", in_dim=20), (16, 1, 4, 4), 24,
         options=_options(reference_latents=[random(9, 1, 16, 1, 4, 4)], pose_video_latent=random(9, 1, 16, 1, 2, 4),
                          clip_vision_output=_vision(14)), **_COMMON),
    Case("wan2.1-scail2", "WAN21_SCAIL2", _WAN | dict(model_type="scail2", in_dim=20), (16, 1, 4, 4), 24,
         options=_options(reference_latents=[random(9, 1, 16, 1, 4, 4), random(10, 1, 16, 1, 4, 4)],
                          pose_video_latent=random(9, 1, 16, 1, 2, 4), driving_mask_28ch=random(10, 1, 1, 28, 2, 4),
                          ref_mask_28ch=random(10, 1, 3, 28, 4, 4), ref_mask_flag=False, clip_vision_output=_vision(10)),
         **_COMMON),
    Case("wan2.2-5b", "WAN22_T2V", _WAN | dict(in_dim=48, out_dim=48), (48, 2, 2, 10), 24,
         options=_options(denoise_mask=_DENOISE), **_COMMON),
    Case("wan2.2-s2v", "WAN22_S2V", _WAN | _S2V, (16, 1, 4, 4), 24,
         options=_options(reference_latents=[random(11, 1, 16, 1, 4, 4)], reference_motion=random(11, 1, 16, 19, 8, 8),
                          control_video=random(11, 1, 16, 1, 4, 4), audio_embed=random(11, 1, 25, 12, 4)), **_COMMON),
    Case("wan2.2-animate", "WAN22_Animate", _I2V | dict(model_type="animate", num_layers=5), (16, 2, 2, 10), 24,
         setup=_small_face,
         options=_options(pose_video_latent=random(12, 1, 16, 1, 2, 10), face_video_pixels=random(12, 1, 3, 4, 4, 4),
                          clip_vision_output=_vision(14)), **_COMMON),
    Case("wan-animate-2", "WAN_Animate2", _I2V | dict(model_type="animate2"), (16, 3, 4, 8), 24,
         options=_options(pose_video_latent=random(14, 1, 16, 2, 4, 8), clip_vision_output=_vision(14)), **_ANIMATE2),
    Case("wan-animate-2-pose-prompt", "WAN_Animate2", _I2V | dict(model_type="animate2"), (16, 3, 4, 6), 24,
         options=_options(pose_video_latent=random(14, 1, 16, 2, 4, 6), cross_attn_pose=random(14, 1, 19, 24),
                          clip_vision_output=_vision(10), clip_vision_output_pose=_vision(14), pose_strength=0.7,
                          reference_strength=0.8), **_ANIMATE2),
    Case("wan-animate-2-no-pose", "WAN_Animate2", _I2V | dict(model_type="animate2"), (16, 3, 4, 6), 24, **_ANIMATE2),
    Case("wan2.2-dancer", "WAN22_WanDancer", _I2V | _DANCER, (16, 2, 4, 8), 24,
         options=_options(clip_vision_output=_vision(6), clip_vision_output_ref=_vision(4), audio_embed=random(13, 1, 9, 35),
                          fps=24.0, audio_inject_scale=0.9), since=(0, 30, 0),  # 0.27 fails at two videos, with VSF or without
         **_COMMON),
]
