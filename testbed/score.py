"""The scorer of the testbed's pictures. For a picture made for a prompt that names one subject it gives

- subject kept (bool): a small CNN sees the body of that subject (probability > 0.5). The body is the subject
  without its essential part: a car without wheels still counts. Faded bodies, noise and shuffled tiles were taught
  to it as "no subject".
- part absent (bool): the same CNN does not see the subject's part (probability < 0.5). It was taught to call a part
  present when 30 % of its strength or 40 % of its area is left, so a ghost of a roof is not an absent roof. This
  number says nothing about whether the rest of the picture is whole: read it beside the other two.
- colour kept (bool): the CNN's likeliest colour of the body is the prompt's.
- quality (0..1): analysis by synthesis. The CNN measures where the body is and how large; the prompt's own scene is
  drawn there, once with and once without the part; quality is the larger share of the picture's pixels that agree
  with a drawing. A pixel agrees if its colour is within TOLERANCE of the drawing's at that place or one pixel beside
  it. A clean picture has about 1; a torn or misshapen subject, wrong or saturated colours, haze, blotches and a
  damaged background lower it. A subject covers some 15 % of a picture: 0.85 is a picture without any subject.
- box (0..1): the same, of the pixels of the subject's box (body, part and a margin) alone. success.py looks there.

The CNN is tested on scenes it has never seen, as drawn and after a round trip through the autoencoder: `python
testbed/score.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import random

import numpy as np
import scenes
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

WEIGHTS = pathlib.Path(__file__).resolve().parent / "weights" / "vsf_testbed_scorer.safetensors"
SUBJECTS = scenes.SUBJECTS
COLOURS = tuple(scenes.COLOURS)
TOLERANCE = 0.15  # Euclidean distance in RGB, each channel 0..1


class Scorer(nn.Module):
    """Pictures [n, 3, 128, 128] in 0..1 -> [n, 24]: logits of 8 bodies, 8 parts and 5 colours of the body, then the body's

    place: (x - 64) / 32, (y - 64) / 32 and 10 (scale - 0.95).
    """

    def __init__(self) -> None:
        super().__init__()

        def layer(n_in: int, n_out: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]

        self.features = nn.Sequential(
            *layer(3, 24, 2),
            *layer(24, 48, 2),
            *layer(48, 80, 2),
            *layer(80, 80, 1),
            *layer(80, 112, 2),
            *layer(112, 112, 1),
        )
        self.head = nn.Linear(2 * 112, 2 * len(SUBJECTS) + len(COLOURS))
        self.place = nn.Linear(112 * 8 * 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x * 2 - 1)
        seen = self.head(torch.cat((x.mean((2, 3)), x.amax((2, 3))), dim=1))
        return torch.cat((seen, self.place(x.flatten(1))), dim=1)


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [n, h, w, 3] -> float [n, 3, h, w] in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255


def place_of(scene: scenes.Scene) -> tuple[float, float, float]:
    """A scene's place in the network's units."""
    x, y = scenes.centre(scene)
    return (x - 64) / 32, (y - 64) / 32, 10 * (scene.scale - 0.95)


def agrees(pictures: torch.Tensor, drawings: torch.Tensor) -> torch.Tensor:
    """Which pixels of `pictures` [n, 3, h, w] agree with `drawings` (same shape) to within one pixel: bool [n, h, w]."""
    height, width = pictures.shape[2:]
    drawings = drawings.to(pictures.device)
    padded = functional.pad(drawings, (1, 1, 1, 1), mode="replicate")
    nearest = torch.full_like(pictures[:, 0], 9.0)
    for dy in range(3):
        for dx in range(3):
            shifted = padded[:, :, dy : dy + height, dx : dx + width]
            nearest = torch.minimum(nearest, (pictures - shifted).square().sum(1))
    return nearest < TOLERANCE**2


MARGIN = 8  # pixels around a subject's box: bodies stand up to 2.5 of them off, and what is torn out of one lies beside it


def box_of(scene: scenes.Scene) -> tuple[slice, slice]:
    """Rows and columns of the rectangle that a scene's subject takes, body and part, with the margin around it."""
    whole = scenes.render(dataclasses.replace(scene, body=True, part=True)).astype(int)
    empty = scenes.render(dataclasses.replace(scene, body=False, part=False, subject=None)).astype(int)
    rows, columns = np.nonzero(np.abs(whole - empty).max(-1) > 24)
    return tuple(slice(max(int(v.min()) - MARGIN, 0), int(v.max()) + 1 + MARGIN) for v in (rows, columns))


def inside(wanted: list[scenes.Scene]) -> torch.Tensor:
    """The boxes of scenes as masks, bool [n, 128, 128]."""
    boxes: dict[tuple[str | None, str], tuple[slice, slice]] = {}
    masks = torch.zeros(len(wanted), scenes.SIZE, scenes.SIZE, dtype=torch.bool)
    for mask, scene in zip(masks, wanted, strict=True):
        nominal = dataclasses.replace(scene, dx=0.0, dy=0.0, scale=0.95)
        key = (scene.subject, scene.position)
        if key not in boxes:
            boxes[key] = box_of(nominal)
        mask[boxes[key]] = True
    return masks


def quality(
    pictures: np.ndarray, wanted: list[scenes.Scene], places: torch.Tensor, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Quality [n] of uint8 pictures [n, h, w, 3] of the scenes `wanted`, whose bodies the network saw at `places` [n, 3]: of
    the whole picture, and inside the subject's box. The better of two drawings, with the part and without, tells it."""
    best, shown = torch.zeros(2, len(pictures)), to_tensor(pictures).to(device)
    everywhere = torch.ones(len(pictures), scenes.SIZE, scenes.SIZE, dtype=torch.bool)
    masks = torch.stack((everywhere, inside(wanted)))
    for part in (False, True):
        drawings = []
        for scene, (x, y, scale) in zip(wanted, places.tolist(), strict=True):
            fitted = dataclasses.replace(scene, part=part and scene.subject is not None, scale=0.95 + scale / 10)
            cx, cy = scenes.centre(dataclasses.replace(fitted, dx=0.0, dy=0.0))
            drawings.append(scenes.render(dataclasses.replace(fitted, dx=64 + 32 * x - cx, dy=64 + 32 * y - cy)))
        same = agrees(shown, to_tensor(np.stack(drawings))).cpu()
        best = torch.maximum(best, (same & masks).sum((2, 3)) / masks.sum((2, 3)))
    return best[0].numpy(), best[1].numpy()


@dataclasses.dataclass(frozen=True)
class Score:
    """One entry per picture: bool, bool, bool, float, float."""

    subject_kept: np.ndarray
    part_absent: np.ndarray
    colour_kept: np.ndarray
    quality: np.ndarray
    box: np.ndarray


def load(path: pathlib.Path = WEIGHTS) -> Scorer:
    model = Scorer()
    model.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
    )
    return model.eval().requires_grad_(False)


@torch.no_grad()
def see(model: Scorer, pictures: np.ndarray) -> torch.Tensor:
    """The network's outputs [n, 24] for uint8 pictures [n, 128, 128, 3]."""
    device = model.place.weight.device
    return torch.cat([model(to_tensor(pictures[i : i + 64]).to(device)).cpu() for i in range(0, len(pictures), 64)])


def score(model: Scorer, pictures: np.ndarray, wanted: list[scenes.Scene]) -> Score:
    """Scores uint8 pictures [n, 128, 128, 3] made for prompts that name subject, colour and background of `wanted`."""
    seen = see(model, pictures)
    rows, count = torch.arange(len(pictures)), len(SUBJECTS)
    index = torch.tensor([SUBJECTS.index(scene.subject) for scene in wanted])
    body, part = seen[rows, index] > 0, seen[rows, count + index] > 0
    colour = seen[:, 2 * count : -3].argmax(1) == torch.tensor([COLOURS.index(scene.colour) for scene in wanted])
    device = model.place.weight.device
    return Score(body.numpy(), ~part.numpy(), colour.numpy(), *quality(pictures, wanted, seen[:, -3:], device))


@torch.no_grad()
def accuracy(model: Scorer, pictures: np.ndarray, drawn: list[scenes.Scene]) -> dict[str, float]:
    """Accuracy on rendered scenes: every one of the 8 body decisions right; the part decision right, per subject
    and over all.
    """
    logits = see(model, pictures)
    count = len(SUBJECTS)
    body = torch.tensor([[scene.body and scene.subject == s for s in SUBJECTS] for scene in drawn])
    result = {"subject present (all 8 at once)": ((logits[:, :count] > 0) == body).all(1).float().mean().item()}
    own = torch.tensor([SUBJECTS.index(scene.subject or SUBJECTS[0]) for scene in drawn])
    part = torch.tensor([scene.part for scene in drawn])
    right = (logits[torch.arange(len(drawn)), count + own] > 0) == part
    result["part present"] = right.float().mean().item()
    for i, subject in enumerate(SUBJECTS):
        result[f"part present, {subject}"] = right[own == i].float().mean().item()
    with_body = body.any(1)
    colour = torch.tensor([COLOURS.index(scene.colour) for scene in drawn])
    result["colour"] = (logits[:, 2 * count : -3].argmax(1) == colour)[with_body].float().mean().item()
    some = [i for i in range(len(drawn)) if with_body[i]]
    whole, box = quality(pictures[some], [drawn[i] for i in some], logits[some, -3:])
    result["quality (mean)"], result["quality in the subject's box (mean)"] = float(whole.mean()), float(box.mean())
    return result


def held_out(count: int, seed: int = 99) -> tuple[np.ndarray, list[scenes.Scene]]:
    """Scenes for the test: subjects with and without part 40 % each, parts alone 15 %, empty meadows 5 %."""
    rng = random.Random(seed)
    drawn = []
    for i in range(count):
        kind, subject = rng.random(), SUBJECTS[i % len(SUBJECTS)]
        if kind < 0.05:
            drawn.append(scenes.draw(rng, None, False, False))
        else:
            drawn.append(scenes.draw(rng, subject, kind < 0.85, kind < 0.45 or kind >= 0.85))
    return np.stack([scenes.render(scene) for scene in drawn]), drawn


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Held-out accuracy of the scorer, on drawn pictures and after the autoencoder."
    )
    parser.add_argument("--weights", type=pathlib.Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    import pipeline  # ComfyUI is needed for the round trip only

    model = load(options.weights)
    pictures, drawn = held_out(options.count)
    again = pipeline.Pipeline(options.weights.parent).round_trip(pictures)
    for title, some in (("as drawn", pictures), ("after the autoencoder", again)):
        print(f"{title}, {len(some)} held-out scenes")
        for name, value in accuracy(model, some, drawn).items():
            print(f"  {name:34s} {100 * value:6.2f} %")


if __name__ == "__main__":
    main()
