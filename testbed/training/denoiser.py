"""The denoiser: ComfyUI's own SD3 class (MMDiT) at depth 3, with ComfyUI's flow sampling: shift 3, timestep = 1000
sigma.

The network predicts the velocity noise - x0 at x = (1 - sigma) x0 + sigma noise. In this architecture the depth
also gives the number of heads and the width (64 x depth); 64 image tokens of 2 x 2 latents meet 32 text tokens.
"""

from __future__ import annotations

import comfy_env  # noqa: F401  (before comfy)

# isort: split
import comfy.ops
import torch
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper, get_2d_sincos_pos_embed_torch
from torch import nn

from . import text_encoder
from .optim import fast_dtype

DEPTH = 3
SHIFT = 3.0
LATENT_SHAPE = (16, 16, 16)
TEXT_WIDTH = 160
GRID = 16  # positions per side that the model knows: pictures up to 256 px


class Model(nn.Module):
    """Denoiser (in `dtype`, the processor's faster one by default) and text encoder (float32), trained together."""

    def __init__(self, seed: int = 0, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        dtype = dtype or fast_dtype()
        self.text = text_encoder.build(seed)
        self.denoiser = OpenAISignatureMMDITWrapper(
            input_size=None,
            patch_size=2,
            in_channels=16,
            depth=DEPTH,
            num_patches=GRID**2,
            pos_embed_max_size=GRID,
            qk_norm="rms",
            adm_in_channels=text_encoder.POOLED_WIDTH,
            dtype=torch.float32,
            device="cpu",
            operations=comfy.ops.disable_weight_init,
            context_embedder_config={
                "target": "torch.nn.Linear",
                "params": {"in_features": TEXT_WIDTH, "out_features": 64 * DEPTH},
            },
        )
        self._initialise()
        self.denoiser.to(dtype)
        self.denoiser.dtype = dtype

    @torch.no_grad()
    def _initialise(self) -> None:
        """DiT's usual start: Xavier matrices, closed gates, a final layer of zeros."""
        for name, parameter in self.denoiser.named_parameters():
            if name.endswith(("ln_q.weight", "ln_k.weight")):
                nn.init.ones_(parameter)
            elif parameter.ndim == 1 or "adaLN_modulation" in name or name.startswith("final_layer.linear"):
                nn.init.zeros_(parameter)
            elif name.startswith("t_embedder"):
                nn.init.normal_(parameter, std=0.02)
            else:
                nn.init.xavier_uniform_(parameter.flatten(1))
        self.denoiser.pos_embed.copy_(get_2d_sincos_pos_embed_torch(64 * DEPTH, GRID, GRID)[None])

    def muon_names(self) -> set[str]:
        """The matrices of attention and MLP; modulation and embeddings stay with AdamW."""
        names = {
            f"denoiser.{n}"
            for n, p in self.denoiser.named_parameters()
            if p.ndim == 2 and n.startswith("joint_blocks") and "adaLN" not in n
        }
        return names | {f"text.{n}" for n in text_encoder.muon_names(self.text)}

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Velocity [n, 16, 16, 16] (float32) at noise level sigma [n], given text states [n, length, 160]."""
        dtype = self.denoiser.dtype
        pooled = torch.zeros(len(x), text_encoder.POOLED_WIDTH, dtype=dtype, device=x.device)
        return self.denoiser(x.to(dtype), sigma * 1000, context=context.to(dtype), y=pooled).float()


def shifted(t: torch.Tensor) -> torch.Tensor:
    """ComfyUI's time shift: uniform time in 0..1 -> sigma."""
    return SHIFT * t / (1 + (SHIFT - 1) * t)


@torch.no_grad()
def sample(model: Model, ids: torch.Tensor, noise: torch.Tensor, steps: int, cfg: float = 1.0) -> torch.Tensor:
    """Euler steps on ComfyUI's "simple" schedule, where the model is. Latents [n, 16, 16, 16], where the noise is."""
    device = next(model.parameters()).device
    sigmas = shifted(torch.linspace(1, 0, steps + 1)).to(device)
    context = text_encoder.encode(model.text, ids)
    if cfg != 1:
        empty = text_encoder.encode(model.text, text_encoder.tokens([""])).expand_as(context)
    x = noise.to(device)
    for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        velocity = model(x, now.expand(len(x)), context)
        if cfg != 1:
            velocity = torch.lerp(model(x, now.expand(len(x)), empty), velocity, cfg)
        x = x + (after - now) * velocity
    return x.to(noise.device)
