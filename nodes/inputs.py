"""Inputs that nodes share, and what may be in them."""
from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from comfy_api.latest import io

from ..vsf_core.schedule import MOST, SHAPES, THIRDS, Curve, read_curve
from .glue.reading.conditioning import NegativePrompt
from .glue.sampling.seen import is_wanted

MAX_SCALE, MAX_BIAS = 10.0, 5.0
"""Of the paper's rule."""

WAITING = "not sampled yet: connect this model to the sampler, for the positive prompt"
"""What a node shows until its model is sampled: for good where that never happens, as with a second model that a guider leaves
out at CFG 1 (core's DualModelGuider)."""


class Shown:
    """A node whose negatives VSF Heat Map shows. It runs again when a heat map is put into the graph, or taken out, and so does
    the sampler behind it: what was sampled before was not recorded (ComfyUI's caches, comfy_execution/caching.py)."""

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> bool:
        return is_wanted()


def times() -> list[io.Float.Input]:
    """When to act, as parts of the sampling."""
    return [io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                           tooltip="Where in the sampling to begin. 0 is the first step."),
            io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.01, advanced=True,
                           tooltip="Where in the sampling to stop. 1 is after the last step.")]


def mask_input() -> io.Mask.Input:
    return io.Mask.Input("mask", optional=True, advanced=True,
                         tooltip="Where to act: only where the mask is white, less where it is grey. Of any size, and one for "
                                 "all, or one for each picture or frame. Empty is the whole picture.")


def curve_input() -> io.String.Input:
    return io.String.Input("curve", default="constant", optional=True, advanced=True,
                           tooltip=f"How strong over the sampling: {', '.join(f'`{name}`' for name in SHAPES)}; or times and "
                                   "factors such as `0:1, 0.5:1, 1:0`, where 0 is the start, 1 the end, and a factor up to "
                                   f"{MOST:g}.")


def blocks_input() -> io.String.Input:
    return io.String.Input("blocks", default="", optional=True, advanced=True,
                           tooltip="For study: in which of the model's blocks it acts, "
                                   f"{', '.join(f'`{name}`' for name in THIRDS)}, or numbers from 0, `0-5, 8`. Empty is all.")


def in_time(start_percent: Any, end_percent: Any) -> tuple[float, float]:
    """When to act. Raises ValueError, for the user to read, for what is no time."""
    start, end = in_range("start_percent", start_percent, 1.0), in_range("end_percent", end_percent, 1.0)
    if start > end:
        raise ValueError(f"VSF: set start_percent below end_percent. Expected a time in which to act, found {start:g} to "
                         f"{end:g}.")
    return start, end


def over_time(name: str, strength: float, curve: Any) -> tuple[float, Curve | None, str]:
    """A strength and what it is times over the sampling, None for the same all the time; and why it is off, "" if it is not.
    name: of the strength. Raises ValueError, for the user to read, for what is no curve."""
    read = read_curve(curve)
    if read.constant is None:
        return strength, read, "" if strength else f"{name} 0"
    return strength * read.constant, None, f"{name} 0" if not strength else "" if read.constant else "its curve is 0"


def check_scales(negatives: Sequence[NegativePrompt]) -> None:
    """Raise ValueError, for the user to read, for a scale that is too large with all that it is multiplied by."""
    for n in negatives:
        if (most := n.scale * (n.curve.highest if n.curve else 1.0)) > MAX_SCALE:
            raise ValueError("VSF: lower `scale`, its `curve` or the strength of `negative`. Expected at most "
                             f"{MAX_SCALE:g} for all multiplied, found {most:g}.")


def in_range(name: str, value: Any, most: float) -> float:
    """The value of a setting. Raises ValueError, for the user to read, for what is no number from 0 to `most`."""
    # NaN is neither; typeshed's Real has no order
    if not isinstance(value, Real) or not 0.0 <= value <= most:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"VSF: set `{name}` between 0 and {most:g}. Expected a number in that range, found {value!r}.")
    return float(value)
