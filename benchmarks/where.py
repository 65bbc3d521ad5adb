"""What a mask does: two cars side by side, the wheels taken off the left one alone.

    python dev.py where                 100 pictures, 4 steps, the sd3 model
    python dev.py where --count 12 --sheet sheet.png

The model draws one car, so two are made as artists make them: a picture almost twice as wide, two prompts in areas of their
own (Conditioning Set Area), which overlap by 32 pixels, 4 cells of the latent. Each car has a VSF Prompt with the negative
`wheels`, one behind the other, and both have the same mask: white on the left half of the picture, black on the right. The
overlap is in both areas, so that each of their calls sees white and black. Same noise in each row of the table:

    left off, right on      in how many pictures the left car has no wheels, the right one has, and both cars are there, with
                            its 95 % interval; behind it, each of these alone
    changed, left / right   mean difference of the pixels of a half to the picture without a negative, of 255

The halves are scored by testbed/score.py, each in the 128 pixels of its own area.
"""
from __future__ import annotations

import argparse
import pathlib
import random
import sys
from typing import Any

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "testbed"), str(ROOT / "benchmarks")]

import comfy_env  # noqa: E402, F401  (before comfy)
import intervals  # noqa: E402
import pipeline  # noqa: E402
import scenes  # noqa: E402
import score  # noqa: E402

NODES = pipeline.pack_nodes(ROOT)

import comfy.sample  # noqa: E402

from nodes import ConditioningSetArea  # noqa: E402

SEED = 104  # no setting was chosen on it
SUBJECT = "car"
OVERLAP = 32
AREAS = (0, scenes.SIZE - OVERLAP)  # where they begin, in pixels
WIDTH, HALF = AREAS[1] + scenes.SIZE, (AREAS[1] + scenes.SIZE) // 2
LEFT = torch.zeros(1, scenes.SIZE, WIDTH)
LEFT[..., :HALF] = 1
NEGATIVES: dict[str, dict[str, Any] | None] = {
    "no negative": None, "negative, no mask": {}, "negative, mask on the left": {"mask": LEFT}}


def prompts(count: int, seed: int) -> list[list[scenes.Scene]]:
    """The two cars of each picture: two colours, one time of the day."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        background = rng.choice(scenes.BACKGROUNDS)
        colours = rng.sample(scenes.SUBJECT_COLOURS[SUBJECT], 2)
        found.append([scenes.Scene(SUBJECT, colour, "center", background, scale=0.95) for colour in colours])
    return found


def picture(pipe: pipeline.Pipeline, cars: list[scenes.Scene], negative: dict[str, Any] | None, seed: int,
            steps: int) -> np.ndarray:
    """uint8 [128, WIDTH, 3]. negative: the optional inputs of VSF Prompt, None for CLIP Text Encode in its place."""
    model, positive = pipe.model, []
    for car, start in zip(cars, AREAS, strict=True):
        text = f"a {car.colour} {SUBJECT} in the center, {car.background}"
        if negative is None:
            own = pipe.encode(text)
        else:
            model, own = NODES["VSFPrompt"].execute(model, pipe.clip, text, scenes.PARTS[SUBJECT], 1.0, **negative).args
        positive += ConditioningSetArea().append(own, scenes.SIZE, scenes.SIZE, start, 0, 1.0)[0]
    noise = torch.randn(1, 16, scenes.SIZE // 8, WIDTH // 8, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        latent = comfy.sample.sample(model, noise, steps, 1.0, "euler", "simple", positive, pipe.encode(""), noise * 0,
                                     disable_pbar=True, seed=seed)
        return pipe.decode(latent)[0]


def row(scorer: score.Scorer, pictures: np.ndarray, plain: np.ndarray, cars: list[list[scenes.Scene]]) -> list[str]:
    """A row of the table."""
    left, right = (score.score(scorer, pictures[:, :, start:start + scenes.SIZE], [pair[i] for pair in cars])
                   for i, start in enumerate(AREAS))
    kept = left.subject_kept & right.subject_kept
    wanted = left.part_absent & ~right.part_absent & kept
    low, high = intervals.interval(wanted.tolist())
    changed = np.abs(pictures.astype(float) - plain)
    shares = [f"{share.mean():.2f}" for share in (left.part_absent, ~right.part_absent, kept)]
    return [f"{wanted.mean():.2f} ({low:.2f} to {high:.2f})", *shares,
            *(f"{half.mean():.2f}" for half in (changed[:, :, :HALF], changed[:, :, HALF:]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="pictures")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--sheet", type=pathlib.Path, help="write the first pictures here, a row each")
    options = parser.parse_args()
    pipe, scorer, cars = pipeline.Pipeline(), score.load(), prompts(options.count, SEED)
    print("| sd3 | left off, right on | left off | right on | both cars | changed, left | changed, right |",
          "|---|---|---|---|---|---|---|", sep="\n")
    found = {}
    for name, negative in NEGATIVES.items():
        found[name] = np.stack([picture(pipe, pair, negative, SEED * 1_000_000 + i, options.steps)
                                for i, pair in enumerate(cars)])
        print("|", " | ".join([name, *row(scorer, found[name], found["no negative"], cars)]), "|", flush=True)
    if options.sheet:
        shown = [found[name][i] for i in range(min(options.count, 12)) for name in found]
        scenes.contact_sheet(shown, len(found)).save(options.sheet)


if __name__ == "__main__":
    main()
