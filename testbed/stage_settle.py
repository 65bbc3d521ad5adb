"""Stage `settle`: plain flow on the real pictures again, after reflow. Writes settle.pt and settle.png.

Reflow makes the model certain of its few steps, and of the likelier picture. Here it meets again what a plain caption may
show: the subject with its part and, in a fixed share of the pictures, without. That share is what a negative has to go to:
with more of it VSF removes more, and more pictures lack the part without any negative (testbed/README.md has the figures).
Parts alone are drawn more often too, and more so those that are hardest to remove.
"""

from __future__ import annotations

import scenes
import stage_flow
import torch
from optim import MasterMuon
from workspace import Workspace

BARE_SHARE = 0.268  # of the pictures under a plain caption
HARD = ("clock", "face", "cup")
HARD_BARE, HARD_PART, PART = 1.12, 2.2, 1.3
PEAK_RATE = 1.0e-3


def weights(drawn: list[tuple[scenes.Scene, str]]) -> torch.Tensor:
    """How often each picture is drawn, relative to a subject with its part."""
    bare = [scene.body and not scene.part for scene, _ in drawn]
    plain = sum(scene.body and scene.part and "with" not in caption for scene, caption in drawn)
    share = BARE_SHARE / (1 - BARE_SHARE) * plain / max(sum(bare), 1)

    def weight(scene: scenes.Scene) -> float:
        hard = scene.subject in HARD
        if scene.body:
            return 1.0 if scene.part else share * (HARD_BARE if hard else 1.0)
        return 1.0 if not scene.part else HARD_PART if hard else PART

    return torch.tensor([weight(scene) for scene, _ in drawn])


def run(work: Workspace) -> None:
    model = stage_flow.load(work, "reflow.pt", "reflow").requires_grad_(True)
    optimiser = MasterMuon(model, model.muon_names(), weight_decay=0.05, ema=0.995)
    optimiser.load_weights(work.require("reflow.pt", "reflow")["weights"])
    total = work.budget(2000, 3)
    stage_flow.fit(work, "settle.pt", model, optimiser, total, PEAK_RATE, weights(work.scenes()), flat=0.5)
