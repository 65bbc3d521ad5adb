"""Flux.1, Flux.2 and their relatives (comfy/ldm/flux/model.py)."""
from __future__ import annotations

from typing import Any

import reference
import tiny
import torch
from comfy.patcher_extension import WrappersMP

from cases import Case

_FLUX1 = dict(image_model="flux", in_channels=16, out_channels=16, vec_in_dim=16, context_in_dim=24, hidden_size=64,
              mlp_ratio=2.0, num_heads=2, depth=2, depth_single_blocks=2, axes_dim=[8, 12, 12], theta=10000, patch_size=2,
              qkv_bias=True, guidance_embed=True, txt_ids_dims=[])
_FLUX2 = _FLUX1 | dict(image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None, axes_dim=[8, 8, 8, 8],
                       patch_size=1, qkv_bias=False, txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True,
                       ops_bias=False, default_ref_method="index", ref_index_scale=10.0)
_NO_GUIDANCE = dict(guidance_embed=False, vec_in_dim=None, txt_ids_dims=[1, 2])
_LATENT, _PACKED = (16, 8, 6), (128, 4, 3)


def _pooled(length: int, seed: int) -> dict[str, Any]:
    return {"pooled_output": tiny.tokens(1, seed + 1000, width=16)[0], "guidance": 3.0}


def _references(length: int, seed: int) -> dict[str, Any]:
    """Two pictures to edit, of sizes other than the latent's."""
    return {**_pooled(length, seed), "reference_latents": [_noise(16, 4, 6), _noise(16, 6, 8)]}


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(7))


def _redux(length: int, seed: int) -> dict[str, Any]:
    """StyleModelApply's attn_bias: half of the words were made by the style model, and weigh less; img_shape is 1 x 1."""
    mask = torch.zeros(1, length + 1, length + 1)
    mask[:, :, length // 2:length] = -1.5
    mask[:, length // 2:length, length // 2:length] = 0
    return {**_pooled(length, seed), "attention_mask": mask, "attention_mask_img_shape": (1, 1)}


def _append_text_and_mask(call: reference.RefCall) -> None:
    """[P][N0 of each][I]; the model's mask of P and I gets rows and columns of zeros between them."""
    mask = call.conds.pop("attention_mask")
    reference.append_text(call)
    text, extra = call.text[0], sum(call.text[1:])
    for dim in (1, 2):
        head, tail = mask.split([text, mask.shape[dim] - text], dim)
        gap = [extra if d == dim else n for d, n in enumerate(mask.shape)]
        mask = torch.cat([head, mask.new_zeros(gap), tail], dim)
    call.conds["attention_mask"] = mask


def _append_to_filled(call: reference.RefCall) -> None:
    """[filling up to 512][P][N0 of each]."""
    reference.append_text(call)
    if call.words:
        own = call.words[reference.TEXT]
        call.words = {reference.TEXT: torch.cat([own.new_zeros(call.text[0] - len(own)), own])}


def _append_inside(call: reference.RefCall) -> None:
    """Append inside of BaseModel._apply_model, which so counts P alone, and moves the image by no more than its length."""
    context = call.conds["c_crossattn"]
    extra = [n.tokens.to(context).expand(len(call.x), -1, -1) for n in call.negatives]
    call.text = [context.shape[1], *(e.shape[1] for e in extra)]

    def wrapper(executor: Any, x: Any, timestep: Any, text: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return executor(x, timestep, torch.cat([text, *(e.to(text) for e in extra)], dim=1), *args, **kwargs)

    call.options["wrappers"] = {**call.options["wrappers"], WrappersMP.DIFFUSION_MODEL: {"reference": [wrapper]}}


CASES = [
    Case("flux1", "Flux", _FLUX1, _LATENT, 24, options=_pooled),
    Case("flux1-kontext", "Flux", _FLUX1, _LATENT, 24, options=_references),
    Case("flux1-redux", "Flux", _FLUX1, _LATENT, 24, options=_redux, lengthen=_append_text_and_mask,
         words=lambda length: length // 2),
    Case("flux2", "Flux2", _FLUX2, _PACKED, 24, positions=True, lengthen=_append_to_filled,
         options=lambda length, seed: {"guidance": 3.0}),
    Case("flux2-klein-edit", "Flux2", _FLUX2 | dict(guidance_embed=False), _PACKED, 24, positions=True,
         lengthen=_append_to_filled,
         options=lambda length, seed: {"reference_latents": [_noise(128, 3, 3)],
                                       "reference_latents_method": "index_timestep_zero"}),
    Case("longcat-image", "LongCatImage", _FLUX1 | _NO_GUIDANCE, _LATENT, 24, positions=True, lengthen=_append_inside,
         since=(0, 20, 0)),  # earlier ones take every text for one of 512 tokens; LongCat's encoder pads to that, this does not
    Case("ovis-image", "FluxSchnell", _FLUX1 | _NO_GUIDANCE | dict(yak_mlp=True, txt_norm=True), _LATENT, 24, positions=True),
]
