"""HunyuanVideo 1 and 1.5, HunyuanImage 2.1 (comfy/ldm/hunyuan_video/model.py)."""
from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import reference
import tiny
import torch
from comfy.ldm.flux.layers import timestep_embedding
from comfy.ldm.modules.attention import optimized_attention

from cases import Case

_VIDEO1 = dict(image_model="hunyuan_video", in_channels=16, out_channels=16, vec_in_dim=16, context_in_dim=24, hidden_size=64,
               mlp_ratio=2.0, num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[8, 12, 12], theta=256,
               patch_size=[1, 2, 2], qkv_bias=True, guidance_embed=True, byt5=False, meanflow=False,
               use_cond_type_embedding=False, vision_in_dim=None, meanflow_sum=False)
_VIDEO15 = _VIDEO1 | dict(in_channels=65, out_channels=32, vec_in_dim=None, patch_size=[1, 1, 1], guidance_embed=False,
                          byt5=True, use_cond_type_embedding=True, vision_in_dim=20, meanflow_sum=True)
_IMAGE21 = _VIDEO1 | dict(in_channels=8, out_channels=8, vec_in_dim=None, patch_size=[1, 1], axes_dim=[16, 16], byt5=True,
                          meanflow=True)
_LATENT, _LATENT15 = (16, 2, 4, 6), (32, 2, 3, 4)
REFINED, TEXT = "reference_refined", "reference_text"
"""One letter a token: what the refiner gets; what stands before the image in the blocks."""


def _pooled(length: int, seed: int) -> dict[str, Any]:
    return {"pooled_output": tiny.tokens(1, seed + 1000, width=16)[0]}


def _guiding_frame(length: int, seed: int) -> dict[str, Any]:
    """Image-to-video v2: the first frame has a timestep of its own."""
    return {**_pooled(length, seed), "guiding_frame_index": 0}


def _byt5(length: int, seed: int) -> dict[str, Any]:
    """Words in quotes."""
    return {**_pooled(length, seed), "conditioning_byt5small": tiny.tokens(3, seed + 2000, width=1472)}


def _byt5_and_vision(length: int, seed: int) -> dict[str, Any]:
    return {**_byt5(length, seed), "clip_vision_output": SimpleNamespace(last_hidden_state=tiny.tokens(5, 8, width=20))}


def _append_text(call: reference.RefCall) -> None:
    """[P][N0 of each]; in the blocks [vision][ByT5][P][N0 of each][ByT5], where one ByT5 is empty."""
    reference.append_text(call)
    model, text = call.model.diffusion_model, call.text_kinds
    vision, byt5 = ("B" * call.conds[name].shape[1] if name in call.conds else "" for name in ("clip_fea", "txt_byt5"))
    byt5 = byt5 if model.params.byt5 else ""
    call.options[REFINED] = text.replace("B", "P")
    call.options[TEXT] = vision + (byt5 + text if model.params.use_cond_type_embedding else text + byt5)


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    refined, text = call.text_kinds, call.options[TEXT]
    return (refined, refined) if keys == len(refined) else (text + "I" * (keys - len(text)),) * 2


def _refine(refiner: Any, x: torch.Tensor, timesteps: torch.Tensor, mask: torch.Tensor | None,
            transformer_options: dict[str, Any]) -> torch.Tensor:
    """The TokenRefiner over all prompts at once, with a mean and a modulation for each token of what its prompt says.

    Attention is kept apart by the reference's override.
    """
    kinds = transformer_options[REFINED]
    same = torch.tensor([[float(a == b) for b in kinds] for a in kinds], dtype=x.dtype)
    mean = same / same.sum(dim=1, keepdim=True) @ x
    time = refiner.t_embedder(timestep_embedding(timesteps, 256, time_factor=1.0).to(x.dtype))
    c = time[:, None] + refiner.c_embedder(mean)
    mask = None if mask is None else mask[:, None, None, :] + mask[:, None, :, None]
    x = refiner.input_embedder(x)
    for block in refiner.individual_token_refiner.blocks:
        gate1, gate2 = block.adaLN_modulation(c).chunk(2, dim=-1)
        q, k, v = block.self_attn.qkv(block.norm1(x)).unflatten(-1, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
        z = optimized_attention(q, k, v, block.heads, mask=mask, skip_reshape=True, transformer_options=transformer_options)
        x = x + block.self_attn.proj(z) * gate1
        x = x + block.mlp(block.norm2(x)) * gate2
    return x


def _single_block(forward: Any, x: torch.Tensor, transformer_options: dict[str, Any], modulation_dims: Any = None,
                  **kwargs: Any) -> torch.Tensor:
    """A single block that counts the first frame's tokens (its first so many, be they text or image) without negatives; these
    are modulated as what stands where the text begins."""
    if modulation_dims is not None:
        (_, frame, _), _ = modulation_dims
        text = transformer_options[TEXT]
        kinds = text + "I" * (x.shape[1] - len(text))
        own = text.replace("B", "P").index(transformer_options[REFINED])
        counts = [sum(kinds[:i].count(letter) for letter in "PBI") if kind in "PBI" else own for i, kind in enumerate(kinds)]
        modulation_dims = [(i, i + 1, int(count >= frame)) for i, count in enumerate(counts)]
    return forward(x, modulation_dims=modulation_dims, transformer_options=transformer_options, **kwargs)


def _setup(base_model: Any) -> None:
    """Give the reference's model, in float64, the reference's refiner and count."""
    if base_model.get_dtype() == torch.float64:
        model = base_model.diffusion_model
        model.txt_in.forward = functools.partial(_refine, model.txt_in)
        for block in model.single_blocks:
            block.forward = functools.partial(_single_block, block.forward)


_CASE = functools.partial(Case, width=24, lengthen=_append_text, kinds=_kinds, setup=_setup,
                          no_mutants=frozenset(), refines_apart=True)

CASES = [
    _CASE("hunyuan-video", "HunyuanVideo", _VIDEO1, _LATENT, options=_pooled),
    _CASE("hunyuan-video-i2v", "HunyuanVideoI2V", _VIDEO1 | dict(in_channels=33, guidance_embed=False), _LATENT,
          options=_guiding_frame, since=(0, 20, 0)),  # earlier ones fail at two latents, with VSF or without
    _CASE("hunyuan-video-skyreels-i2v", "HunyuanVideoSkyreelsI2V", _VIDEO1 | dict(in_channels=32), _LATENT, options=_pooled),
    _CASE("hunyuan-video-1.5", "HunyuanVideo15", _VIDEO15, _LATENT15, options=_byt5_and_vision),
    _CASE("hunyuan-video-1.5-sr", "HunyuanVideo15_SR_Distilled", _VIDEO15 | dict(in_channels=98, meanflow=True), _LATENT15,
          options=_byt5),
    _CASE("hunyuan-image-2.1", "HunyuanImage21", _IMAGE21, (8, 6, 4), options=_byt5),
    _CASE("hunyuan-image-2.1-refiner", "HunyuanImage21Refiner",
          _IMAGE21 | dict(in_channels=16, patch_size=[1, 1, 1], axes_dim=[8, 12, 12], byt5=False), (8, 2, 3, 4), options=_byt5),
]
