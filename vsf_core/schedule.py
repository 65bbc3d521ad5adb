"""When a negative acts, and how strongly: by its window and its curve over the sampling; and in which of a model's blocks."""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class SigmaWindow(NamedTuple):
    """The noise levels at which a negative acts: end <= sigma <= start.

    The same closed interval as ComfyUI's own conditioning ranges (comfy/samplers.py, get_area_and_mult).
    """
    start: float
    end: float

    def __contains__(self, sigma: object) -> bool:
        return isinstance(sigma, float) and self.end <= sigma <= self.start


SHAPES = {"constant": "0:1", "fade out": "0:1, 1:0", "fade in": "0:0, 1:1", "bump": "0:0, 0.5:1, 1:0"}
"""Curves that have a name."""

MOST = 10.0
"""The greatest factor of a curve."""

NOTHING = 1e-6
"""A factor below this is 0: what is left of one when a noise level is rounded."""

LEVELS = 500
"""Noise levels at which a curve's time is looked up: between them, off by less than 1e-5 of the sampling for the models that
there are."""

_NUMBER = r"\s*((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*"
_POINT = re.compile(f"{_NUMBER}:{_NUMBER}", re.IGNORECASE)


@dataclass(frozen=True)
class Curve:
    """The factor of a negative's strength over the sampling: straight lines between points, level before the first and after
    the last. points: (time, factor), time from 0, the start of the sampling, to 1, its end, as ComfyUI's percents count it."""
    points: tuple[tuple[float, float], ...]

    def at(self, time: float) -> float:
        i = sum(t <= time for t, _ in self.points)
        if i == 0 or i == len(self.points):
            return self.points[max(i - 1, 0)][1]
        (t0, f0), (t1, f1) = self.points[i - 1:i + 1]
        return f0 + (f1 - f0) * (time - t0) / (t1 - t0)

    @property
    def constant(self) -> float | None:
        """The factor, if it is the same all the time."""
        factors = {factor for _, factor in self.points}
        return factors.pop() if len(factors) == 1 else None

    @property
    def highest(self) -> float:
        return max(factor for _, factor in self.points)

    @property
    def rests(self) -> bool:
        """Whether the factor is 0 anywhere before the sampling's end, at which no model is called."""
        return min(self.at(0.0), *(factor for time, factor in self.points if time < 1.0), 1.0) == 0.0


def read_curve(text: object) -> Curve:
    """A curve from its name (SHAPES) or its points, `0:1, 0.5:1, 1:0`; an empty text is `constant`.

    Raises ValueError, for the user to read, that shows the part which is none.
    """
    if not isinstance(text, str):
        raise _wrong(f"found {type(text).__name__}")
    name = " ".join(text.lower().replace("_", " ").split())
    points: list[tuple[float, float]] = []
    for part in SHAPES.get(name, text if name else SHAPES["constant"]).rstrip(" ,\n").split(","):
        match = _POINT.fullmatch(part)
        if match is None:
            raise _wrong(f'found "{part.strip()}"')
        time, factor = float(match[1]), float(match[2])
        if time > 1.0 or factor > MOST:
            raise _wrong(f'found "{part.strip()}"')
        if points and time <= points[-1][0]:
            raise _wrong(f'found "{part.strip()}" behind "{points[-1][0]:g}:{points[-1][1]:g}", which is not later')
        points.append((time, factor))
    return Curve(tuple(points))


def _wrong(found: str) -> ValueError:
    return ValueError(f"VSF: set `curve` to {', '.join(SHAPES)}, or to points such as 0:1, 0.5:1, 1:0. Expected times from 0 "
                      f"to 1, each later than the one before, with a factor from 0 to {MOST:g} each, {found}.")


class SigmaCurve(NamedTuple):
    """A curve by noise level, for one sampling run: samplers call the model between their own steps too.

    levels: (n,), rising; factors: (n,); both float32. between: straight lines.
    """
    levels: Tensor
    factors: Tensor

    def at(self, sigma: Tensor) -> Tensor:
        """The factor at sigma, (), as a tensor on its device: nothing waits for that."""
        i = torch.searchsorted(self.levels, sigma.float()).clamp(1, len(self.levels) - 1)
        below, above = self.levels[i - 1], self.levels[i]
        share = ((sigma.float() - below) / (above - below)).clamp(0, 1)
        return torch.lerp(self.factors[i - 1], self.factors[i], share)

    def to(self, device: torch.device) -> SigmaCurve:
        return SigmaCurve(self.levels.to(device), self.factors.to(device))


def by_sigma(curve: Curve, percent_to_sigma: Callable[[float], float]) -> SigmaCurve:
    """A curve over the noise levels of a model. percent_to_sigma: as of ComfyUI's model_sampling, falling between 0 and 1."""
    times = sorted({*(i / LEVELS for i in range(LEVELS + 1)), *(time for time, _ in curve.points)}, reverse=True)
    inside = 1e-9  # at 0 and 1 themselves, percent_to_sigma gives what no step can reach
    levels = torch.tensor([float(percent_to_sigma(min(max(time, inside), 1 - inside))) for time in times])
    factors = torch.tensor([curve.at(time) for time in times])
    rising = torch.cat([torch.tensor([True]), levels[1:] > levels[:-1].cummax(0).values])
    factors[rising.nonzero().max()] = curve.at(0.0)  # some have one level for all times near the start (Cascade)
    return SigmaCurve(levels[rising], factors[rising])


THIRDS = ("first third", "middle third", "last third")


@dataclass(frozen=True)
class Blocks:
    """Some of a model's blocks, counted from 0 in the order in which their image reads the prompt. third: of them all, by its
    place in THIRDS; else numbers."""
    third: int | None = None
    numbers: frozenset[int] = frozenset()

    def of(self, total: int) -> frozenset[int]:
        """Their numbers in a model of so many."""
        if self.third is None:
            return self.numbers
        return frozenset(range(round(total * self.third / 3), round(total * (self.third + 1) / 3)))


def read_blocks(text: object) -> Blocks | None:
    """Blocks from the name of a third or from numbers, `0-5, 8`; None for all, an empty text. Raises ValueError, for the user
    to read, that shows the part which is none."""
    name = " ".join(text.lower().split()) if isinstance(text, str) else None
    if name in ("", "all"):
        return None
    if name in THIRDS:
        return Blocks(third=THIRDS.index(name))
    numbers: set[int] = set()
    for part in ("?" if name is None else name).split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            found = type(text).__name__ if name is None else f'"{part.strip()}"'
            raise ValueError(f"VSF: leave `blocks` empty for all, or set it to {', '.join(THIRDS)}, or to numbers such as 0-5, "
                             f"8. Expected blocks, found {found}.")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return Blocks(numbers=frozenset(numbers))
