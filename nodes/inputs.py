"""Inputs that nodes share, and what may be in them."""
from __future__ import annotations

from numbers import Real
from typing import Any

from comfy_api.latest import io


def times() -> list[io.Float.Input]:
    """When to act, as parts of the sampling."""
    return [io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                           tooltip="Where in the sampling to begin. 0 is the first step."),
            io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.01, advanced=True,
                           tooltip="Where in the sampling to stop. 1 is after the last step.")]


def in_range(name: str, value: Any, most: float) -> float:
    """The value of a setting. Raises ValueError, for the user to read, for what is no number from 0 to `most`."""
    if not isinstance(value, Real) or not 0.0 <= value <= most:  # NaN is neither
        raise ValueError(f"VSF: set `{name}` between 0 and {most:g}. Expected a number in that range, found {value!r}.")
    return float(value)
