"""When a negative acts."""
from __future__ import annotations

from typing import NamedTuple


class SigmaWindow(NamedTuple):
    """The noise levels at which a negative acts: end <= sigma <= start.

    The same closed interval as ComfyUI's own conditioning ranges (comfy/samplers.py, get_area_and_mult).
    """
    start: float
    end: float

    def __contains__(self, sigma: object) -> bool:
        return isinstance(sigma, float) and self.end <= sigma <= self.start
