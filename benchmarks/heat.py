"""Where VSF Prompt acts, by VSF Heat Map itself: its maps on the testbed, where the part would be drawn and elsewhere.

    python dev.py heat                          200 pictures of each architecture, 4 steps, strength 1
    python dev.py heat --each 3 --architectures sd3

Of each picture, the map's mean over the pixels that the part covers (where the scene is another one without it), over its mean
elsewhere, and over its mean on the rest of the subject. In the table: the geometric mean of these ratios and its 95 % interval,
and in how many pictures the part has more.
"""
from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import sys

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "testbed"), str(ROOT / "benchmarks")]

import comfy_env  # noqa: E402, F401  (before comfy)
import evaluate  # noqa: E402
import intervals  # noqa: E402
import pipeline  # noqa: E402
import scenes  # noqa: E402

NODES = pipeline.pack_nodes(ROOT)  # loads the pack as vsf_pack

from vsf_pack.nodes.glue.sampling import seen  # noqa: E402
from vsf_pack.nodes.glue.sampling.drawn import draw  # noqa: E402

SEED = 103  # the report pairs' (evidence.py)


def covered(scene: scenes.Scene) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels the part covers, and which the rest of the subject, [128, 128] bool."""
    whole, body, none = (scenes.render(dataclasses.replace(scene, **change)).astype(int) for change in (
        {"part": True}, {"part": False}, {"part": False, "body": False, "subject": None}))
    part, rest = (np.abs(a - b).max(-1) > 24 for a, b in ((whole, body), (body, none)))
    return part, rest & ~part


def ratios(pipe: pipeline.Pipeline, pair: scenes.Pair, seed: int, steps: int, strength: float = 1.0) -> tuple[float, float]:
    """The map on the part, over the map elsewhere and over the map on the rest of the subject, of one picture."""
    rule = evaluate.prompt_rule(NODES, strength)
    model, positive, _, cfg = rule.prepare(evaluate.Case(pipe, [pair.positive], pair.negative))
    with seen.recorded(), torch.inference_mode():
        latents = pipe.sample(model, positive, [seed], steps, cfg)
    [mask] = draw(model, {"samples": latents}, brightest=1.0)[2].numpy()
    part, body = covered(pair.scene)
    return tuple(float(mask[part].mean() / mask[other].mean()) for other in (~part, body))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=["sd3", "flux", "wan"])
    parser.add_argument("--each", type=int, default=25, help="pictures of each of the 8 subjects")
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    pairs = scenes.prompt_pairs(options.each * len(scenes.SUBJECTS), SEED)
    head = ["architecture", "pictures", "on the part over elsewhere", "more on the part",
            "on the part over the rest of the subject", "more on the part"]
    print("| " + " | ".join(head) + " |", "|---" * len(head) + "|", sep="\n")
    for architecture in options.architectures:
        pipe = pipeline.Pipeline(architecture=architecture)
        found = [ratios(pipe, pair, SEED * 1_000_000 + i, options.steps) for i, pair in enumerate(pairs)]
        cells = [architecture, str(len(found))]
        for logs in (list(map(math.log, column)) for column in zip(*found, strict=True)):
            low, high = (math.exp(x) for x in intervals.interval(logs))
            cells += [f"{math.exp(np.mean(logs)):.2f} ({low:.2f} to {high:.2f})", str(sum(x > 0 for x in logs))]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
