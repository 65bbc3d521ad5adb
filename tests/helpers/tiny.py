"""Real ComfyUI models at toy size with random weights, loaded by ComfyUI's own loader."""
from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass

import comfy.ops
import comfy.sample
import comfy.sd
import torch

CONTEXT_WIDTH, POOLED_WIDTH = 24, 32

_SD3 = dict(input_size=None, pos_embed_max_size=16, num_patches=256, patch_size=2, in_channels=16, depth=2,
            adm_in_channels=POOLED_WIDTH, qk_norm="rms",
            context_embedder_config={"target": "torch.nn.Linear",
                                     "params": {"in_features": CONTEXT_WIDTH, "out_features": 128}})
_FLUX = dict(image_model="flux", in_channels=16, out_channels=16, vec_in_dim=POOLED_WIDTH, context_in_dim=CONTEXT_WIDTH,
             hidden_size=256, mlp_ratio=4.0, num_heads=2, depth=2, depth_single_blocks=2, axes_dim=[16, 56, 56],
             theta=10000, patch_size=2, qkv_bias=True, guidance_embed=True, txt_ids_dims=[])
_MMDIT = "comfy.ldm.modules.diffusionmodules.mmdit", "OpenAISignatureMMDITWrapper"


@dataclass(frozen=True)
class Tiny:
    """A model family at toy size. attention_module: where its blocks look up ComfyUI's attention function."""
    module: str
    cls: str
    config: dict
    attention_module: str


FAMILIES = {
    "sd3": Tiny(*_MMDIT, _SD3, _MMDIT[0]),
    "sd3.5-medium": Tiny(*_MMDIT, _SD3 | dict(x_block_self_attn_layers=[0]), _MMDIT[0]),
    "flux1": Tiny("comfy.ldm.flux.model", "Flux", _FLUX, "comfy.ldm.flux.math"),
}


def state_dict(family: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Seeded random weights for every parameter: ComfyUI leaves many at zero, and a zero gate hides every fault."""
    tiny = FAMILIES[family]
    cls = getattr(importlib.import_module(tiny.module), tiny.cls)
    with torch.device("meta"):
        model = cls(**tiny.config, dtype=torch.float32, device="meta", operations=comfy.ops.disable_weight_init)
    return random_weights(model.state_dict(), seed=seed)


def random_weights(state: dict[str, torch.Tensor], scale: float = 0.8, seed: int = 0) -> dict[str, torch.Tensor]:
    """Seeded values of the shapes in a state dict."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, p in state.items():
        if p.ndim == 1 and "norm" in name:
            out[name] = 1.5 + 0.2 * torch.randn(p.shape, generator=g)  # sharp attention: errors of a mask row show
        else:
            out[name] = torch.randn(p.shape, generator=g) * (scale / max(p[0].numel(), 1) ** 0.5 if p.ndim > 1 else 0.2)
    return out


def randomise(model: torch.nn.Module, scale: float = 0.8, seed: int = 0) -> None:
    """Give every floating-point parameter and stored buffer of a model a seeded random value."""
    state = {name: p for name, p in model.state_dict().items() if p.is_floating_point()}
    with torch.no_grad():
        for name, value in random_weights(state, scale, seed).items():
            state[name].copy_(value)


def load(family: str, dtype: torch.dtype = torch.float32, seed: int = 0):
    """A ModelPatcher from ComfyUI's own loader, weights and computation in dtype."""
    patcher = comfy.sd.load_diffusion_model_state_dict(state_dict(family, seed), model_options={"dtype": dtype})
    assert patcher is not None, f"ComfyUI did not recognise the tiny {family}"
    return patcher


cached = functools.cache(load)


def tokens(length: int, seed: int, batch: int = 1, width: int = CONTEXT_WIDTH) -> torch.Tensor:
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed))


def conditioning(length: int, seed: int, **options) -> list:
    """A CONDITIONING of random tokens with its pooled vector."""
    g = torch.Generator().manual_seed(seed + 1000)
    return [[tokens(length, seed), {"pooled_output": torch.randn(1, POOLED_WIDTH, generator=g), **options}]]


def sample(model, positive: list, negative: list | None = None, *, cfg: float = 1.0, batch: int = 1, steps: int = 2,
           size: tuple[int, int] = (8, 6), seed: int = 0, sampler: str = "euler", latent: torch.Tensor | None = None,
           **kwargs) -> torch.Tensor:
    """ComfyUI's own sampler on a (batch, 16, *size) latent; text to image unless a latent is given."""
    noise = torch.randn(batch, 16, *size, generator=torch.Generator().manual_seed(seed))
    negative = conditioning(3, 999) if negative is None else negative
    return comfy.sample.sample(model, noise, steps, cfg, sampler, "simple", positive, negative,
                               torch.zeros_like(noise) if latent is None else latent, disable_pbar=True, seed=seed, **kwargs)
