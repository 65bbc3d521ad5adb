"""Stage `students`: the same pictures from other architectures (student.py), learned from the finished model, whose files lie
in weights/. Writes real.pt and taught.pt; a checkpoint and a picture of each student (4 steps over 8 steps); and its file of
weights/.

A student begins with nothing and learns, in one run, what stage `reflow` learns: the straight lines between noise and the
pictures that the finished model draws from it in 8 steps, and real pictures, of which BARE_SHARE lack the part whatever the
subject. Towards the end there are few lines and many real pictures, as in stage `settle`. The text encoder is the finished
model's and stays as it is, so each caption is encoded once. The network computes in bfloat16 where the processor is faster with
it than with float32 (optim.fast_dtype), from float32 weights.
"""

from __future__ import annotations

import dataclasses
import time

import comfy_env  # noqa: F401  (before comfy)

# isort: split
import comfy.model_management
import numpy as np
import scenes
import torch
from safetensors.torch import load_file
from student import STUDENTS, Student
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm, trange

from . import autoencoder, denoiser, stage_export, stage_reflow, stage_settle, text_encoder
from .optim import MasterMuon, fast_dtype
from .workspace import Workspace, log, rate_at

REAL, PAIRS, CHUNK = 3000, 2000, 250
BARE_SHARE = 0.3  # of the real pictures under a plain caption, how many lack the part: for every subject alike
PAIRS_UNTIL, LATE_PAIR_SHARE = 0.55, 0.1  # of the run, and of the batch from there on
PEAK_RATE = 1.5e-3
SAVE_EVERY = 100


@dataclasses.dataclass
class Taught:
    """What students learn from: a model and its autoencoder in float32, pairs that the model drew, latents of real pictures,
    and the states [n, 32, 160] of all their texts, by token ids."""

    model: denoiser.Model
    decoder: autoencoder.TAESD
    pairs: dict[str, torch.Tensor]
    latents: torch.Tensor
    drawn: list[tuple[scenes.Scene, str]]

    def __post_init__(self) -> None:
        self.captions = [caption for _, caption in self.drawn]
        ids = torch.cat((text_encoder.tokens([*self.captions, ""]), self.pairs["ids"])).unique(dim=0)
        with torch.no_grad():
            states = torch.cat([text_encoder.encode(self.model.text, some) for some in ids.split(CHUNK)])
        self.states = {tuple(row.tolist()): state for row, state in zip(ids, states, strict=True)}

    def text(self, batch: stage_reflow.Batch) -> torch.Tensor:
        """The states that a batch keeps, [n, length, 160]."""
        return torch.stack([self.states[tuple(row.tolist())] for row in batch.ids])[:, : batch.length]


def finished(work: Workspace) -> tuple[denoiser.Model, autoencoder.TAESD]:
    """Denoiser with text encoder, and autoencoder, from the files that stage `export` wrote, in float32."""

    def state(name: str) -> dict[str, torch.Tensor]:
        return {key: value.float() for key, value in load_file(work.weights / f"vsf_testbed_{name}.safetensors").items()}

    model, decoder = denoiser.Model(work.seed, torch.float32), autoencoder.build(work.seed)
    model.denoiser.load_state_dict(state("sd3"))
    model.text.load_state_dict(state("text"))
    decoder.load_state_dict(state("vae"))
    device = comfy.model_management.get_torch_device()
    return model.requires_grad_(False).to(device), decoder.requires_grad_(False).to(device)


def real_latents(work: Workspace, decoder: autoencoder.TAESD, drawn: list[tuple[scenes.Scene, str]]) -> torch.Tensor:
    """Latents float16 [n, 16, 16, 16] of scenes; made in chunks that survive an interrupt."""
    done = work.load("real.pt")
    done = torch.empty(0, *denoiser.LATENT_SHAPE).half() if done is None else done
    for start in tqdm(range(len(done), len(drawn), CHUNK), "real.pt", mininterval=5):
        pictures = np.stack([scenes.render(scene) for scene, _ in drawn[start : start + CHUNK]])
        done = torch.cat((done, autoencoder.encode(decoder, pictures)))
        work.save("real.pt", done)
    return done


def prepare(work: Workspace) -> Taught:
    model, decoder = finished(work)
    drawn = work.scenes()[: work.budget(REAL, 32)]
    return Taught(
        model,
        decoder,
        stage_reflow.pairs(work, "taught.pt", model, work.budget(PAIRS, 16), 8),
        real_latents(work, decoder, drawn),
        drawn,
    )


def run(work: Workspace) -> None:
    taught = prepare(work)
    for name in work.students or STUDENTS:
        kind = STUDENTS[name]
        train(work, kind(work.seed).to(comfy.model_management.get_torch_device()), taught)
        stage_export.write(work, f"vsf_testbed_{kind.name}", load(work, kind).network.state_dict(), **kind.metadata)


def train(work: Workspace, model: Student, taught: Taught) -> None:
    """The run of one student, taken up where it stopped: `model.steps` steps, or `work.minutes` if they are over sooner. The
    schedule follows whichever is further."""
    file, limit = f"{model.name}.pt", work.budget(model.steps, 3)
    shares = stage_settle.weights(taught.drawn, BARE_SHARE, {}, ())
    batches = stage_reflow.Batches(
        taught.pairs, taught.latents, taught.captions, model.shifted, shares, work.budget(model.batch, 8)
    )
    optimiser = MasterMuon(model, model.muon_names(), weight_decay=0.02, ema=0.995)
    checkpoint = work.load(file) or {"seconds": 0.0, "done": False}
    if "optimiser" in checkpoint:
        optimiser.load_state_dict(checkpoint["optimiser"])
    if checkpoint["done"]:
        return
    start, running, begin = optimiser.steps, 0.0, time.monotonic() - checkpoint["seconds"]
    comfy.model_management.in_training = True  # rotations that autograd knows
    device = next(model.parameters()).device
    dtype = fast_dtype(device.type)
    log.info("%s: step %d of at most %d, in %s", model.name, start, limit, dtype)
    bar = trange(start, limit, initial=start, total=limit, desc=model.name, mininterval=5)
    for step in bar:
        seconds = time.monotonic() - begin
        progress = max(step / limit, seconds / (60 * work.minutes))
        if progress >= 1:
            break
        share = stage_reflow.PAIR_SHARE if progress < PAIRS_UNTIL else LATE_PAIR_SHARE
        batch = model.adapt(batches.draw(work.seed * 1_000_003 + 41 + step, share))
        sigma = batch.sigma.to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32), sdpa_kernel(SDPBackend.MATH):
            velocity = model(batch.mixed.to(device), sigma, taught.text(batch))
        loss = (model.weight(sigma) * (velocity.float() - batch.velocity.to(device)).square()).mean()
        loss.backward()
        optimiser.step(rate_at(round(progress * limit), limit, PEAK_RATE) * min(1.0, (step + 1) / 30))
        running = loss.item() if step == start else 0.98 * running + 0.02 * loss.item()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{running:.4f}")
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            save(work, file, optimiser, time.monotonic() - begin, False)
    save(work, file, optimiser, time.monotonic() - begin, True)
    log.info("%s: %d steps in %.0f minutes", model.name, optimiser.steps, (time.monotonic() - begin) / 60)
    preview(work, load(work, type(model)).to(device), taught)


def save(work: Workspace, file: str, optimiser: MasterMuon, seconds: float, done: bool) -> None:
    state = {"optimiser": optimiser.state_dict(), "weights": optimiser.averaged(), "seconds": seconds, "done": done}
    work.save(file, state)


def load(work: Workspace, kind: type[Student]) -> Student:
    """A student from its checkpoint's averaged weights."""
    model = kind(work.seed)
    model.load_state_dict(work.require(f"{kind.name}.pt", "students")["weights"], strict=False)
    return model.requires_grad_(False)


def preview(work: Workspace, model: Student, taught: Taught) -> None:
    ids = text_encoder.tokens([pair.positive for pair in scenes.prompt_pairs(work.budget(16, 2))])
    noise = torch.randn(len(ids), *denoiser.LATENT_SHAPE, generator=torch.Generator().manual_seed(1))
    states = text_encoder.encode(taught.model.text, ids)
    pictures = [p for steps in (4, 8) for p in autoencoder.decode(taught.decoder, model.sample(states, noise, steps))]
    scenes.contact_sheet(pictures, len(ids)).save(work.path(f"{model.name}.png"))
