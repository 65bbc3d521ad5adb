"""Stage `ae`: trains the autoencoder on crops of rendered scenes. Writes ae.pt (checkpoint) and ae.png
(originals over reconstructions).
"""

from __future__ import annotations

import numpy as np
import scenes
import torch
from tqdm import trange

from . import autoencoder
from .optim import MasterMuon, fast_dtype
from .workspace import Workspace, rate_at

PEAK_RATE = 2.5e-3
SAVE_EVERY = 150


def run(work: Workspace) -> None:
    pictures, _ = work.dataset()
    total = work.budget(2200, 3)
    model = autoencoder.build(work.seed).to(fast_dtype()).to(memory_format=torch.channels_last)
    optimiser = MasterMuon(model, autoencoder.muon_names(model), ema=0.998)
    checkpoint = work.load("ae.pt")
    start = 0
    if checkpoint is not None:
        optimiser.load_state_dict(checkpoint["optimiser"])
        start = optimiser.steps
    bar = trange(start, total, initial=start, total=total, desc="ae", mininterval=5)
    for step in bar:
        torch.manual_seed(work.seed * 1_000_003 + step)  # one seed a step: a resumed run sees the same batches
        rng = np.random.default_rng((work.seed, step))
        # Mostly crops; whole pictures now and then, so that the picture's border is seen.
        count, size = (4, scenes.SIZE) if step % 8 == 7 else (16, scenes.SIZE // 2)
        loss, plain = autoencoder.loss(model, autoencoder.crops(pictures, rng, count, size))
        loss.backward()
        optimiser.step(rate_at(step, total, PEAK_RATE))
        if step % 10 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}", l1=f"{plain.item():.4f}")
        if step % SAVE_EVERY == SAVE_EVERY - 1 or step == total - 1:
            work.save("ae.pt", {"optimiser": optimiser.state_dict(), "weights": optimiser.averaged()})
            preview(work, pictures)


def load(work: Workspace, dtype: torch.dtype | None = None) -> autoencoder.TAESD:
    """The trained autoencoder (averaged weights), ready for encode and decode."""
    model = autoencoder.build(work.seed)
    model.load_state_dict(work.require("ae.pt", "ae")["weights"], strict=False)
    return model.to(dtype or fast_dtype()).to(memory_format=torch.channels_last).requires_grad_(False)


def preview(work: Workspace, pictures: np.ndarray) -> None:
    model = load(work)
    some = pictures[:16]
    again = autoencoder.decode(model, autoencoder.encode(model, some))
    rows = [*some[:8], *again[:8], *some[8:], *again[8:]]
    scenes.contact_sheet(rows, 8).save(work.path("ae.png"))
