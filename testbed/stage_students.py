"""Stage `students`: the same pictures from other architectures (student.py). Writes taught.pt; flux.pt and wan.pt
with a picture each (4 steps over 8 steps); and their files of testbed/weights.

A student begins with nothing and learns what stage `reflow` learns: the straight lines between noise and the pictures that
the finished model draws from it in 8 steps, and real pictures, as often as in stage `settle`. Towards the end there are few
lines and many real pictures, as in stage `settle` again. The text encoder is the finished model's, and stays as it is.
"""

from __future__ import annotations

import autoencoder
import comfy.model_management
import denoiser
import scenes
import stage_ae
import stage_export
import stage_flow
import stage_reflow
import stage_settle
import text_encoder
import torch
from optim import MasterMuon
from student import STUDENTS, Student
from tqdm import trange
from workspace import Workspace, rate_at

PAIRS = 8000
PAIRS_UNTIL, LATE_PAIR_SHARE = 0.55, 0.1  # of the steps, and of the batch from there on
PEAK_RATE = 1.5e-3
SAVE_EVERY = 250


def run(work: Workspace) -> None:
    teacher = stage_flow.load(work, "settle.pt", "settle", torch.float32)
    drawn = stage_reflow.pairs(work, "taught.pt", "settle.pt", work.budget(PAIRS, 16), 8)
    for kind in STUDENTS.values():
        weights = stage_settle.weights(work.scenes(), kind.bare_share, kind.bare, kind.hard)
        train(work, kind(work.seed), stage_reflow.Batches(work, drawn, kind.shifted, weights), teacher.text)
        stage_export.write(work, f"vsf_testbed_{kind.name}", load(work, kind).network.state_dict(), **kind.metadata)


def train(work: Workspace, model: Student, batches: stage_reflow.Batches, text: torch.nn.Module) -> None:
    total, file = work.budget(model.steps, 3), f"{model.name}.pt"
    optimiser = MasterMuon(model, model.muon_names(), weight_decay=0.02, ema=0.998)
    checkpoint = work.load(file)
    if checkpoint is not None:
        optimiser.load_state_dict(checkpoint["optimiser"])
    start = optimiser.steps
    bar = trange(start, total, initial=start, total=total, desc=model.name, mininterval=5)
    running = 0.0
    comfy.model_management.in_training = True  # rotations that autograd knows
    for step in bar:
        share = stage_reflow.PAIR_SHARE if step < PAIRS_UNTIL * total else LATE_PAIR_SHARE
        batch = batches.draw(work.seed * 1_000_003 + 41 + step, share)
        batch.target, batch.met = (model.from_teacher(latents) for latents in (batch.target, batch.met))
        with torch.no_grad():
            states = batch.states(text)
        loss = (model(batch.mixed, batch.sigma, states) - batch.velocity).square().mean()
        loss.backward()
        optimiser.step(rate_at(step, total, PEAK_RATE))
        running = loss.item() if step == start else 0.98 * running + 0.02 * loss.item()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{running:.4f}")
        if step % SAVE_EVERY == SAVE_EVERY - 1 or step == total - 1:
            work.save(file, {"optimiser": optimiser.state_dict(), "weights": optimiser.averaged()})
            preview(work, type(model), text)


def load(work: Workspace, kind: type[Student]) -> Student:
    """A student from its checkpoint's averaged weights."""
    model = kind(work.seed)
    model.load_state_dict(work.require(f"{kind.name}.pt", "students")["weights"], strict=False)
    return model.requires_grad_(False)


def preview(work: Workspace, kind: type[Student], text: torch.nn.Module) -> None:
    ids = text_encoder.tokens([pair.positive for pair in scenes.prompt_pairs(work.budget(16, 2))])
    noise = torch.randn(len(ids), *denoiser.LATENT_SHAPE, generator=torch.Generator().manual_seed(1))
    model, decoder = load(work, kind), stage_ae.load(work)
    with torch.no_grad():
        states = text_encoder.encode(text, ids)
    pictures = [p for steps in (4, 8) for p in autoencoder.decode(decoder, model.sample(states, noise, steps))]
    scenes.contact_sheet(pictures, len(ids)).save(work.path(f"{kind.name}.png"))
