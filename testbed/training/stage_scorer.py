"""Stage `scorer`: trains the CNN of score.py. Writes scorer.pt.

It sees whole subjects, subjects without their part or with a faded or half-erased one, parts alone, empty meadows,
and broken pictures (faded, noisy, shuffled: "no subject"), a quarter of them after the autoencoder with noise on the
latents; then blur, noise and colour shifts.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import scenes
import score
import torch
from torch.nn import functional
from tqdm import tqdm, trange

from . import stage_ae
from .optim import fast_dtype
from .workspace import Workspace, log

BATCH = 64
IGNORE = -1.0


def example(rng: random.Random) -> tuple[np.ndarray, list[float]]:
    """A picture (uint8) and its targets: 8 bodies and 8 parts (1, 0, or IGNORE), and the colour's index (or
    IGNORE).
    """
    subject = rng.choice(scenes.SUBJECTS)
    own = scenes.SUBJECTS.index(subject)
    body, part, colour = [0.0] * 8, [0.0] * 8, IGNORE
    kind = rng.random()
    whole = scenes.draw(rng, subject, True, True)
    if kind < 0.06:
        picture = scenes.render(scenes.draw(rng, None, False, False))
    elif kind < 0.2:
        picture = scenes.render(dataclasses.replace(whole, body=False))
        part[own] = 1.0
    elif kind < 0.3:  # broken
        picture = _break(rng, scenes.render(whole), scenes.render(dataclasses.replace(whole, subject=None)))
        part = [IGNORE] * 8
    else:
        bare = scenes.render(dataclasses.replace(whole, part=False))
        full = scenes.render(whole)
        body[own], colour = 1.0, float(score.COLOURS.index(whole.colour))
        if kind < 0.52:
            picture, part[own] = bare, 0.0
        elif kind < 0.8:
            picture, part[own] = full, 1.0
        else:
            picture, part[own] = _partial(rng, full, bare)
    return picture, [*body, *part, colour, *score.place_of(whole)]


def _partial(rng: random.Random, full: np.ndarray, bare: np.ndarray) -> tuple[np.ndarray, float]:
    """A part that is faded, or of which one side is missing."""
    if rng.random() < 0.6:
        strength = rng.random()
        mixed = full * strength + bare * (1 - strength)
        return mixed.round().astype(np.uint8), 1.0 if strength > 0.3 else 0.0 if strength < 0.12 else IGNORE
    changed = (full != bare).any(-1)
    ys, xs = np.nonzero(changed)
    along_x = rng.random() < 0.7
    values = xs if along_x else ys
    cut = rng.uniform(values.min(), values.max())
    grid = np.arange(scenes.SIZE)
    keep = (grid < cut)[None, :] if along_x else (grid < cut)[:, None]
    if rng.random() < 0.5:
        keep = ~keep
    keep = np.broadcast_to(keep, changed.shape)
    left = (changed & keep).sum() / changed.sum()
    return np.where(keep[..., None], full, bare), 1.0 if left > 0.4 else 0.0 if left < 0.1 else IGNORE


def _break(rng: random.Random, picture: np.ndarray, empty: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(rng.getrandbits(32))
    kind = rng.random()
    if kind < 0.35:
        strength = rng.uniform(0, 0.25)
        return (picture * strength + empty * (1 - strength)).round().astype(np.uint8)
    if kind < 0.65:
        tile = rng.choice((8, 16))
        n = scenes.SIZE // tile
        tiles = picture.reshape(n, tile, n, tile, 3).swapaxes(1, 2).reshape(n * n, tile, tile, 3)
        tiles = tiles[noise.permutation(n * n)]
        return tiles.reshape(n, n, tile, tile, 3).swapaxes(1, 2).reshape(scenes.SIZE, scenes.SIZE, 3)
    coarse = torch.from_numpy(noise.random((1, 3, *(rng.choice((6, 12, 24)),) * 2)).astype(np.float32))
    blotches = (
        functional.interpolate(coarse, (scenes.SIZE, scenes.SIZE), mode="bicubic")[0]
        .permute(1, 2, 0)
        .clamp(0, 1)
        .numpy()
        * 255
    )
    strength = rng.uniform(0.75, 1.0)
    return (picture * (1 - strength) + blotches * strength).round().astype(np.uint8)


def augment(x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [n, 3, h, w] with small shifts, blur, noise, brightness, contrast and saturation, each on a share
    of the batch.
    """
    n = len(x)

    def some(share: float) -> torch.Tensor:
        return (torch.rand(n, 1, 1, 1) < share).float()

    down, right = (int(v) for v in torch.randint(-3, 4, (2,)))
    x = torch.roll(x, (down, right), (2, 3))
    target = target.clone()
    target[:, 17] += right / 32
    target[:, 18] += down / 32
    x = torch.lerp(x, functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False), some(0.3))
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + some(0.4) * (torch.rand(n, 1, 1, 1) * 1.0 - 0.3))
    x = (
        0.5
        + (x - 0.5) * (1 + some(0.4) * (torch.rand(n, 1, 1, 1) * 0.6 - 0.3))
        + some(0.4) * (torch.rand(n, 3, 1, 1) * 0.16 - 0.08)
    )
    x = x + some(0.4) * torch.rand(n, 1, 1, 1) * 0.12 * torch.randn_like(x)
    return x.clamp(0, 1), target


@torch.no_grad()
def degrade(work: Workspace, pictures: np.ndarray) -> np.ndarray:
    """Pictures after the autoencoder, with noise of up to 0.4 on the latents."""
    model = stage_ae.load(work)
    out = []
    for start in tqdm(range(0, len(pictures), 32), "scorer: round trip", mininterval=5):
        x = score.to_tensor(pictures[start : start + 32]).to(fast_dtype()).contiguous(memory_format=torch.channels_last)
        latent = model.taesd_encoder(x)
        latent = latent + 0.4 * torch.rand(len(x), 1, 1, 1).square().to(x.dtype) * torch.randn_like(latent)
        decoded = model.taesd_decoder(latent).float().clamp(0, 1) * 255
        out.append(decoded.round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(out)


def run(work: Workspace) -> None:
    total = work.budget(2600, 3)
    if work.path("scorer.pt").exists():
        return
    torch.manual_seed(work.seed)
    rng = random.Random(work.seed + 2)
    drawn = [example(rng) for _ in tqdm(range(work.budget(9000, 64)), "scorer: render", mininterval=5)]
    pictures = np.stack([picture for picture, _ in drawn])
    seen = len(pictures) // 4
    pictures[:seen] = degrade(work, pictures[:seen])
    targets = torch.tensor([target for _, target in drawn])
    model = score.Scorer().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=total)
    bar = trange(total, desc="scorer", mininterval=5)
    for step in bar:
        chosen = torch.randint(len(pictures), (BATCH,))
        x, target = augment(score.to_tensor(pictures[chosen.numpy()]), targets[chosen])
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() == torch.bfloat16):
            logits = model(x)
        logits = logits.float()
        known = (target[:, :16] >= 0).float()
        loss = (
            functional.binary_cross_entropy_with_logits(logits[:, :16], target[:, :16].clamp(min=0), reduction="none")
            * known
        ).mean() * 8
        loss = loss + functional.cross_entropy(logits[:, 16:21], target[:, 16].long(), ignore_index=-1) * 0.3
        off = ((logits[:, 21:] - target[:, 17:]).abs() * (target[:, 16:17] >= 0)).mean()
        loss = loss + off * 3
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}", place=f"{off.item():.4f}")
    model.eval()
    work.save("scorer.pt", model.state_dict())
    test, test_scenes = score.held_out(work.budget(800, 32))
    log.info("scorer, held out, as drawn: %s", score.accuracy(model, test, test_scenes))
