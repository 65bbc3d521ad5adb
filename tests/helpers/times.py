"""Times of the sampling, 0 to 1, by ComfyUI's own percent_to_sigma."""
from __future__ import annotations

from typing import Any


def time_of(sigma: float, model_sampling: Any) -> float:
    """The time at which a model has this noise level, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if model_sampling.percent_to_sigma(middle) > sigma else (low, middle)
    return (low + high) / 2


def factor(points: list[tuple[float, float]], time: float) -> float:
    """A curve of straight lines from (0, ...) to (1, ...), at a time."""
    for (t0, f0), (t1, f1) in zip(points, points[1:], strict=False):
        if t0 <= time <= t1:
            return f0 + (f1 - f0) * (time - t0) / (t1 - t0)
    raise AssertionError(time)
