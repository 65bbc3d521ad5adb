"""Stage `flow`: rectified flow on the latents, text encoder included. Writes flow.pt and flow.png (4 steps over
8 steps).
"""

from __future__ import annotations

import pathlib
import zlib
from collections.abc import Callable

import scenes
import torch
from tqdm import trange

from . import autoencoder, denoiser, stage_ae, text_encoder
from .optim import MasterMuon
from .workspace import Workspace, rate_at

BATCH = 64
PEAK_RATE = 1.5e-3
EMPTY_SHARE = 0.1
SAVE_EVERY = 250


def noise_levels(count: int, shifted: Callable[[torch.Tensor], torch.Tensor] = denoiser.shifted) -> torch.Tensor:
    """Sigmas [count]: mostly logit-normal time through ComfyUI's shift, a share uniform, and some exactly at pure
    noise,

    where few-step sampling starts and where an error is never repaired.
    """
    t = torch.sigmoid(torch.randn(count))
    sigma = shifted(t)
    uniform = torch.rand(count)
    choice = torch.rand(count)
    sigma = torch.where(choice < 0.25, uniform, sigma)
    return torch.where(choice > 0.95, torch.ones(()), sigma)


def run(work: Workspace) -> None:
    model = denoiser.Model(work.seed)
    optimiser = MasterMuon(model, model.muon_names(), weight_decay=0.05, ema=0.998)
    fit(work, "flow.pt", model, optimiser, work.budget(4500, 3), PEAK_RATE)


def fit(
    work: Workspace,
    file: str,
    model: denoiser.Model,
    optimiser: MasterMuon,
    total: int,
    peak: float,
    weights: torch.Tensor | None = None,
    flat: float = 0.4,
) -> None:
    """Rectified flow for `total` steps, from the checkpoint where there is one. `weights`: how often each picture is drawn,
    relative to the others (all alike by default)."""
    _, captions = work.dataset()
    latents = work.require("latents.pt", "latents").float()
    ids = text_encoder.tokens(captions)
    empty = text_encoder.tokens([""])
    weights = torch.ones(len(latents)) if weights is None else weights
    checkpoint = work.load(file)
    if checkpoint is not None:
        optimiser.load_state_dict(checkpoint["optimiser"])
    start = optimiser.steps
    bar = trange(start, total, initial=start, total=total, desc=file.removesuffix(".pt"), mininterval=5)
    running = 0.0
    for step in bar:
        torch.manual_seed(work.seed * 1_000_003 + zlib.crc32(file.encode()) % 1000 + step)
        chosen = torch.multinomial(weights, BATCH if not work.quick else 8, replacement=True)
        words = torch.where(torch.rand(len(chosen), 1) < EMPTY_SHARE, empty, ids[chosen])
        target, noise, sigma = (
            latents[chosen],
            torch.randn(len(chosen), *denoiser.LATENT_SHAPE),
            noise_levels(len(chosen)),
        )
        mix = sigma[:, None, None, None]
        velocity = model((1 - mix) * target + mix * noise, sigma, text_encoder.encode(model.text, words))
        loss = (velocity - (noise - target)).square().mean()
        loss.backward()
        optimiser.step(rate_at(step, total, peak, flat=flat))
        running = loss.item() if step == start else 0.98 * running + 0.02 * loss.item()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{running:.4f}")
        if step % SAVE_EVERY == SAVE_EVERY - 1 or step == total - 1:
            work.save(file, {"optimiser": optimiser.state_dict(), "weights": optimiser.averaged()})
            preview(work, file, work.path(file.replace(".pt", ".png")))


def load(work: Workspace, name: str, stage: str, dtype: torch.dtype | None = None) -> denoiser.Model:
    """Denoiser and text encoder from a checkpoint's averaged weights."""
    model = denoiser.Model(work.seed, dtype)
    model.load_state_dict(work.require(name, stage)["weights"], strict=False)
    return model.requires_grad_(False)


def preview(work: Workspace, name: str, path: pathlib.Path) -> None:
    model = load(work, name, "flow")
    prompts = [pair.positive for pair in scenes.prompt_pairs(12)] + [
        "wheels, day",
        "roof, night",
        "eyes, day",
        "hands, day",
    ]
    ids = text_encoder.tokens(prompts)
    noise = torch.randn(len(prompts), *denoiser.LATENT_SHAPE, generator=torch.Generator().manual_seed(1))
    decoder = stage_ae.load(work)
    pictures = [p for steps in (4, 8) for p in autoencoder.decode(decoder, denoiser.sample(model, ids, noise, steps))]
    scenes.contact_sheet(pictures, len(prompts)).save(path)
