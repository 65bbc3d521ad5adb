"""Numbers as colours, for a heat map that can be read in print and by people who see some colours alike.

The colours go from a dark violet by red to a light yellow, and grow lighter evenly. They are made in Oklab (Bjorn Ottosson, "A
perceptual color space for image processing", 2020), in which equal steps look equally large.
"""
from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

LEVELS = 256


def colours(values: Tensor) -> Tensor:
    """Numbers from 0 to 1, (...), as sRGB, (..., 3)."""
    return table().to(values.device)[(values.clamp(0, 1) * (LEVELS - 1)).round().long()]


@cache
def table() -> Tensor:
    """(LEVELS, 3), sRGB from 0 to 1: lightness from 0.13 to 0.96, hue from 290 to 460 degrees, chroma as far as sRGB has it."""
    t = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    lightness, chroma, hue = 0.13 + 0.83 * t, 0.05 + 0.5 * t * (1 - t), (290 + 170 * t) * math.pi / 180
    light = oklab_to_linear(torch.stack([lightness, chroma * hue.cos(), chroma * hue.sin()], dim=-1))
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=0) ** (1 / 2.4) - 0.055).float()


def oklab_to_linear(lab: Tensor) -> Tensor:
    """(..., 3) L, a, b to linear sRGB."""
    to_cones = lab.new_tensor([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                               [1, -0.0894841775, -1.2914855480]])
    to_rgb = lab.new_tensor([[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
                             [-0.0041960863, -0.7034186147, 1.7076147010]])
    return (lab @ to_cones.mT) ** 3 @ to_rgb.mT
