"""Stage `latents`: encodes every picture once. Writes latents.pt: float16 [n, 16, 16, 16] in the sampler's scale."""

from __future__ import annotations

import torch
from tqdm import tqdm

from . import autoencoder, stage_ae
from .workspace import Workspace, log

CHUNK = 256


def run(work: Workspace) -> None:
    pictures, _ = work.dataset()
    done = work.load("latents.pt")
    if done is not None and len(done) == len(pictures):
        return
    model = stage_ae.load(work)
    starts = range(0, len(pictures), CHUNK)
    latents = torch.cat(
        [autoencoder.encode(model, pictures[s : s + CHUNK]) for s in tqdm(starts, "latents", mininterval=5)]
    )
    work.save("latents.pt", latents)
    spread = latents.float()
    log.info(
        "latents: mean %.3f, standard deviation %.3f, largest %.2f", spread.mean(), spread.std(), spread.abs().max()
    )
