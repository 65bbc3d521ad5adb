"""The autoencoder: the TAESD shape that ComfyUI's VAELoader takes from models/vae as one file, with 16 latent
channels.

Latents here are in the SAMPLER's scale (what the denoiser sees, about unit variance). ComfyUI's SD3 latent format
maps a VAE's latent z to (z - 0.0609) * 1.5305; the file's `vae_shift` and `vae_scale` carry the same two numbers
the other way round (TAESD.encode divides by the scale and adds the shift), so that both cancel and the encoder's
output is the sampler's latent.
"""

from __future__ import annotations

import comfy_env  # noqa: F401  (before comfy)

# isort: split
import numpy as np
import torch
from comfy.latent_formats import SD3
from comfy.taesd.taesd import TAESD, Block
from torch import nn
from torch.nn import functional

LATENT_CHANNELS = 16
LATENT_SIZE = 16


def build(seed: int = 0) -> TAESD:
    """A TAESD with weights that let a deep ReLU network learn from the first step: every residual block starts
    as its skip.
    """
    torch.manual_seed(seed)
    model = TAESD(latent_channels=LATENT_CHANNELS)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Block):
                module.conv[-1].weight.mul_(0.1)
        model.taesd_encoder[-1].weight.mul_(0.5)
        model.taesd_decoder[-1].weight.mul_(0.1)
        nn.init.constant_(model.taesd_decoder[-1].bias, 0.5)
        model.vae_scale.fill_(SD3().scale_factor)
        model.vae_shift.fill_(SD3().shift_factor)
    model.vae_scale.requires_grad_(False)
    model.vae_shift.requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def muon_names(model: TAESD) -> set[str]:
    """The convolutions between the first and the last of each half."""
    edges = {"taesd_encoder.0.weight", "taesd_encoder.14.weight", "taesd_decoder.1.weight", "taesd_decoder.19.weight"}
    names = {n for n, p in model.named_parameters() if p.ndim == 4}
    return names - edges


def crops(pictures: np.ndarray, rng: np.random.Generator, count: int, size: int) -> torch.Tensor:
    """Random crops, float [count, 3, size, size] in 0..1. Corners are multiples of 1 px; the sky is met less
    often than the rest.
    """
    total, height, width = pictures.shape[:3]
    out = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        y = int(rng.integers(0, height - size + 1))
        # Subjects and horizon lie below the middle of the sky: of two heights, take the lower crop.
        y = max(y, int(rng.integers(0, height - size + 1)))
        x = int(rng.integers(0, width - size + 1))
        out[i] = pictures[rng.integers(total), y : y + size, x : x + size]
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float() / 255


def loss(model: TAESD, target: torch.Tensor, noise_level: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """Training loss and plain L1 for a batch of crops [n, 3, h, w] in 0..1.

    Pixels near an edge count more, because that is where a subject's shape and most of its error are. Gradients are
    compared too (crisp outlines). Noise on the latents makes the decoder forgive the denoiser's small errors.
    """
    dtype = next(model.parameters()).dtype
    latent = model.taesd_encoder(target.to(dtype)).float()
    level = noise_level * torch.rand(len(latent), 1, 1, 1)
    decoded = model.taesd_decoder((latent + level * torch.randn_like(latent)).to(dtype)).float()
    local = functional.max_pool2d(target, 5, 1, 2) + functional.max_pool2d(-target, 5, 1, 2)
    weight = 1 + 3 * local.amax(1, keepdim=True)
    error = decoded - target
    plain = error.abs()
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    mean, std = latent.mean((0, 2, 3)), latent.std((0, 2, 3))
    tidy = mean.square().mean() + (std - 1).square().mean() + 0.02 * (latent.abs() - 2.5).relu().square().mean()
    return (weight * (plain + 2 * error.square())).mean() + 0.5 * edges + 0.02 * tidy, plain.mean().detach()


@torch.no_grad()
def encode(model: TAESD, pictures: np.ndarray, batch: int = 32) -> torch.Tensor:
    """uint8 [n, 128, 128, 3] -> latents float16 [n, 16, 16, 16] in the sampler's scale."""
    weight = next(model.parameters())
    out = []
    for start in range(0, len(pictures), batch):
        x = torch.from_numpy(pictures[start : start + batch]).permute(0, 3, 1, 2).to(weight) / 255
        out.append(model.taesd_encoder(x.contiguous(memory_format=torch.channels_last)).half().cpu())
    return torch.cat(out)


@torch.no_grad()
def decode(model: TAESD, latents: torch.Tensor, batch: int = 32) -> np.ndarray:
    """Latents in the sampler's scale -> uint8 pictures [n, 128, 128, 3]."""
    weight = next(model.parameters())
    out = []
    for start in range(0, len(latents), batch):
        x = latents[start : start + batch].to(weight).contiguous(memory_format=torch.channels_last)
        picture = model.taesd_decoder(x).float().clamp(0, 1) * 255
        out.append(picture.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)
