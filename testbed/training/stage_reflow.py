"""Stage `reflow`: makes the model few-step. Writes pairs.pt, reflow.pt and reflow.png (4 steps over 8 steps).

The flow model draws pictures from noise with many Euler steps; the student then learns the straight line between each
noise and its picture (Liu et al. 2022), with sigma drawn mostly from the very values that 4 and 8 steps visit. The rest
of every batch are real pictures, parts alone more often than in stage `flow`, because they are learned last. What a
caption that names the subject alone shows stays the same, in the pairs as in the pictures.

Many of the real pictures are met with a rectangle of their latents taken from another picture, and the velocity to learn
leads back to the right one: the model mends what does not belong to the caption, at every noise level, instead of
taking it for granted. Few steps leave errors behind that a long chain of steps would have removed.

Half of the batches lose padding: the text is cut to a random length that still holds every real token. The captions
here are all short, so that a fixed length would leave the model at least twenty padding tokens in every text it ever
met; a model trained on captions of all lengths, as the big ones are, has met texts with none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import scenes
import torch
from tqdm import tqdm, trange

from . import denoiser, stage_flow, text_encoder
from .optim import MasterMuon
from .workspace import Workspace, rate_at

TEACHER_STEPS = 20
CHUNK = 250
BATCH = 64
PAIR_SHARE = 0.4
PEAK_RATE = 1.2e-3
EMPTY_SHARE = 0.08
SAVE_EVERY = 150


def pairs(work: Workspace, file: str, model: denoiser.Model, count: int, steps: int) -> dict[str, torch.Tensor]:
    """Ids [n, 32], noise and latents (float16 [n, 16, 16, 16]) that a model draws from it; made in chunks that survive an
    interrupt."""
    captions = [caption for _, caption in work.scenes()]
    chunk = min(CHUNK, count)
    done = work.load(file) or {
        "ids": torch.empty(0, text_encoder.MIN_LENGTH, dtype=torch.long),
        "noise": torch.empty(0, *denoiser.LATENT_SHAPE).half(),
        "latents": torch.empty(0, *denoiser.LATENT_SHAPE).half(),
    }
    for start in tqdm(range(len(done["ids"]), count, chunk), file, mininterval=5):
        torch.manual_seed(work.seed + 1000 + start)
        words = [captions[i] if torch.rand(()) > EMPTY_SHARE else "" for i in torch.randint(len(captions), (chunk,))]
        ids, noise = text_encoder.tokens(words), torch.randn(chunk, *denoiser.LATENT_SHAPE)
        latents = denoiser.sample(model, ids, noise, steps)
        new = {"ids": ids, "noise": noise.half(), "latents": latents.half()}
        done = {name: torch.cat((done[name], value)) for name, value in new.items()}
        work.save(file, done)
    return done


def shares(captions: list[str]) -> torch.Tensor:
    """How often each real picture is drawn, relative to a subject with its caption."""
    weights = []
    for caption in captions:
        named = any(subject in caption.split() or f"{subject}," in caption for subject in scenes.SUBJECTS)
        weights.append(1.0 if named else 2.0)
    return torch.tensor(weights)


def text_length(ids: torch.Tensor) -> int:
    """The number of text tokens that a batch of ids [n, 32] keeps: all, or a random number from its longest text on."""
    longest = int((ids != 0).sum(1).max())
    if torch.rand(()) < 0.5:
        return ids.shape[1]
    return int(torch.randint(longest, ids.shape[1] + 1, ()))


def with_foreign_patches(latents: torch.Tensor) -> torch.Tensor:
    """Latents [n, 16, 16, 16] in which, for about half of them, a rectangle comes from the next one in the batch."""
    out = latents.clone()
    for row in range(len(latents)):
        if torch.rand(()) < 0.5:
            height, width = torch.randint(2, 9, (2,)).tolist()
            y, x = int(torch.randint(0, 17 - height, ())), int(torch.randint(0, 17 - width, ()))
            other = latents[row - 1, :, y : y + height, x : x + width]
            out[row, :, y : y + height, x : x + width] = other
    return out


@dataclasses.dataclass
class Batch:
    """What one step learns: token ids [n, 32] and how many of their states are kept, noise, latents to reach and latents met
    on the way [n, 16, 16, 16], and noise levels [n]."""

    ids: torch.Tensor
    length: int
    noise: torch.Tensor
    target: torch.Tensor
    met: torch.Tensor
    sigma: torch.Tensor

    @property
    def mix(self) -> torch.Tensor:
        """The noise's share, [n, 1, 1, 1]."""
        return self.sigma[:, None, None, None]

    def states(self, text: torch.nn.Module) -> torch.Tensor:
        """The text encoder's states that are kept [n, length, 160]. All were attended, as in ComfyUI."""
        return text_encoder.encode(text, self.ids)[:, : self.length]

    @property
    def mixed(self) -> torch.Tensor:
        """What the denoiser sees."""
        return (1 - self.mix) * self.met + self.mix * self.noise

    @property
    def velocity(self) -> torch.Tensor:
        """What leads to the target from where the sample is; its foreign part is bounded where sigma is small."""
        return self.noise - self.target + (1 - self.mix) / self.mix.clamp(min=0.25) * (self.met - self.target)


class Batches:
    """Draws batches of `size` from pairs and from real pictures, the latter given as latents [n, 16, 16, 16] and captions.
    `weights`: how often each real picture is drawn."""

    def __init__(
        self,
        pairs: dict[str, torch.Tensor],
        latents: torch.Tensor,
        captions: list[str],
        shifted: Callable[[torch.Tensor], torch.Tensor],
        weights: torch.Tensor,
        size: int,
    ) -> None:
        self.pairs, self.shifted, self.size = pairs, shifted, size
        self.latents, self.ids = latents.float(), text_encoder.tokens(captions)
        self.weights, self.empty = weights, text_encoder.tokens([""])
        self.real_lengths = (self.ids != 0).sum(1)
        self.visited = shifted(torch.arange(1, 9) / 8)  # 8 steps visit all of these, 4 steps every other one

    def draw(self, seed: int, pair_share: float = PAIR_SHARE) -> Batch:
        """One batch, the same for the same seed."""
        torch.manual_seed(seed)
        # A batch of short captions now and then, so that a text of two or three tokens without padding is met too.
        limit = int(torch.randint(2, 6, ())) if torch.rand(()) < 0.2 else text_encoder.MIN_LENGTH
        fitting = self.weights * (self.real_lengths <= limit)
        real = torch.multinomial(fitting if fitting.any() else self.weights, self.size, replacement=True)
        count = round(pair_share * self.size) if limit > 5 else 0
        taught = torch.randint(len(self.pairs["ids"]), (count,))
        real = real[count:]
        words = torch.where(torch.rand(len(real), 1) < EMPTY_SHARE, self.empty, self.ids[real])
        words = torch.cat((self.pairs["ids"][taught], words))
        noise = torch.cat((self.pairs["noise"][taught].float(), torch.randn(len(real), *denoiser.LATENT_SHAPE)))
        target = torch.cat((self.pairs["latents"][taught].float(), self.latents[real]))
        on_grid = torch.where(torch.rand(self.size) < 0.15, torch.ones(()), self.visited[torch.randint(8, (self.size,))])
        anywhere = stage_flow.noise_levels(self.size, self.shifted)
        sigma = torch.where(torch.rand(self.size) < 0.6, on_grid, anywhere)
        met = torch.cat((target[:count], with_foreign_patches(target[count:])))
        return Batch(words, text_length(words), noise, target, met, sigma)


def run(work: Workspace) -> None:
    drawn = pairs(work, "pairs.pt", stage_flow.load(work, "flow.pt", "flow"), work.budget(2000, 16), TEACHER_STEPS)
    latents, (_, captions) = work.require("latents.pt", "latents"), work.dataset()
    batches = Batches(drawn, latents, captions, denoiser.shifted, shares(captions), work.budget(BATCH, 8))
    total = work.budget(2600, 3)
    model = stage_flow.load(work, "flow.pt", "flow").requires_grad_(True)
    optimiser = MasterMuon(model, model.muon_names(), ema=0.995)
    optimiser.load_weights(work.require("flow.pt", "flow")["weights"])
    checkpoint = work.load("reflow.pt")
    if checkpoint is not None:
        optimiser.load_state_dict(checkpoint["optimiser"])
    start = optimiser.steps
    bar = trange(start, total, initial=start, total=total, desc="reflow", mininterval=5)
    running = 0.0
    for step in bar:
        batch = batches.draw(work.seed * 1_000_003 + 29 + step)
        velocity = model(batch.mixed, batch.sigma, batch.states(model.text))
        loss = (velocity - batch.velocity).square().mean()
        loss.backward()
        optimiser.step(rate_at(step, total, PEAK_RATE, flat=0.3))
        running = loss.item() if step == start else 0.98 * running + 0.02 * loss.item()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{running:.4f}")
        if step % SAVE_EVERY == SAVE_EVERY - 1 or step == total - 1:
            work.save("reflow.pt", {"optimiser": optimiser.state_dict(), "weights": optimiser.averaged()})
            stage_flow.preview(work, "reflow.pt", work.path("reflow.png"))
