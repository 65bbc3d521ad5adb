"""What the training stages share: the cache folder with its checkpoints, the rendered pictures, the schedule of
rates.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import pathlib
import random
import tempfile
from typing import Any

import numpy as np
import scenes
import torch
from tqdm import tqdm

log = logging.getLogger("testbed")


@dataclasses.dataclass
class Workspace:
    """A cache folder. `quick` cuts every budget to a few iterations (a smoke test of all stages)."""

    root: pathlib.Path
    seed: int = 0
    quick: bool = False
    weights: pathlib.Path = pathlib.Path(__file__).resolve().parents[1] / "weights"
    students: tuple[str, ...] = ()
    """Which ones stage `students` teaches; all without any."""
    minutes: float = math.inf
    """A student's run is over then, however many steps it has done."""

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)

    def budget(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def path(self, name: str) -> pathlib.Path:
        return self.root / name

    def save(self, name: str, value: Any) -> None:
        """Write through a temporary file: an interrupt leaves the old checkpoint whole."""
        with tempfile.NamedTemporaryFile(dir=self.root, delete=False) as handle:
            torch.save(value, handle)
        os.replace(handle.name, self.path(name))

    def load(self, name: str) -> Any | None:
        """The checkpoint of that name, or None where there is none."""
        path = self.path(name)
        return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None

    def require(self, name: str, stage: str) -> Any:
        value = self.load(name)
        if value is None:
            raise FileNotFoundError(f"{self.path(name)} is missing: run the stage '{stage}' first")
        return value

    def scenes(self) -> list[tuple[scenes.Scene, str]]:
        """The training distribution's scenes and their captions."""
        rng = random.Random(self.seed + 1)
        return [scenes.sample(rng) for _ in range(self.budget(10_000, 96))]

    def dataset(self) -> tuple[np.ndarray, list[str]]:
        """Pictures uint8 [n, 128, 128, 3] of the training distribution and their captions, rendered once."""
        pictures_path, captions_path = self.path("pictures.npy"), self.path("captions.json")
        if not captions_path.exists():
            drawn = self.scenes()
            pictures = np.stack([scenes.render(scene) for scene, _ in tqdm(drawn, "render")])
            np.save(pictures_path, pictures)
            captions_path.write_text(json.dumps([caption for _, caption in drawn]))
        return np.load(pictures_path), json.loads(captions_path.read_text())


def rate_at(step: int, total: int, peak: float, warmup: int = 30, flat: float = 0.4) -> float:
    """Linear warm-up, a plateau until the share `flat` of the run, then a straight line to zero."""
    progress = step / total
    decay = 1.0 if progress < flat else (1 - progress) / (1 - flat)
    return peak * min(1.0, (step + 1) / warmup) * decay
