"""Stage `settle`: plain flow on the real pictures again, after reflow. Writes settle.pt and settle.png.

Reflow makes the model certain of its few steps, and of the likelier picture. Here it meets again what a plain caption may
show: the subject with its part and, in a fixed share of the pictures, without. That share is what a negative has to go to:
with more of it VSF removes more, and more pictures lack the part without any negative (testbed/README.md has the figures).

Captions that name the part beside the subject ("a clock with hands") are drawn more often than before. There the part is
sure, under the plain caption it is not: the difference is what the part's word does to the subject, and what VSF turns round.
"""

from __future__ import annotations

import scenes
import torch

from . import stage_flow
from .optim import MasterMuon
from .workspace import Workspace

BARE_SHARE = 0.245  # of the pictures under a plain caption
BARE = {"cup": 0.6, "clock": 1.1, "face": 1.1, "sailboat": 1.5}  # so that no part is missing much more often
HARD = ("clock", "face", "cup")  # what VSF removes least often
NAMED_HARD, NAMED, PART_ALONE = 2.5, 1.6, 1.3
PEAK_RATE = 1.0e-3


def weights(
    drawn: list[tuple[scenes.Scene, str]],
    bare_share: float = BARE_SHARE,
    by_subject: dict[str, float] = BARE,
    hard: tuple[str, ...] = HARD,
) -> torch.Tensor:
    """How often each picture is drawn, relative to a subject with its part under a plain caption."""
    named = ["with" in caption.split() for _, caption in drawn]
    bare = sum(scene.body and not scene.part for scene, _ in drawn)
    plain = sum(scene.body and scene.part and not name for (scene, _), name in zip(drawn, named, strict=True))
    share = bare_share / (1 - bare_share) * plain / max(bare, 1)

    def weight(scene: scenes.Scene, name: bool) -> float:
        if not scene.body:
            return PART_ALONE if scene.part else 1.0
        if not scene.part:
            return share * by_subject.get(scene.subject, 1.0)
        return 1.0 if not name else NAMED_HARD if scene.subject in hard else NAMED

    return torch.tensor([weight(scene, name) for (scene, _), name in zip(drawn, named, strict=True)])


def run(work: Workspace) -> None:
    model = stage_flow.load(work, "reflow.pt", "reflow").requires_grad_(True)
    optimiser = MasterMuon(model, model.muon_names(), weight_decay=0.05, ema=0.995)
    optimiser.load_weights(work.require("reflow.pt", "reflow")["weights"])
    total = work.budget(2000, 3)
    stage_flow.fit(work, "settle.pt", model, optimiser, total, PEAK_RATE, weights(work.scenes()), flat=0.5)
