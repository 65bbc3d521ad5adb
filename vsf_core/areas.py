"""Masks of one size as averages over the cells of another."""
from __future__ import annotations

import torch
from torch import Tensor

Sizes = tuple[int, ...]
"""Of a latent's picture: ([frames,] height, width)."""


def averaging(size: int, cells: int) -> Tensor:
    """(cells, size): each cell's mean over the part of a line of `size` pixels that it covers, for any two numbers."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * size / cells
    pixels = torch.arange(size, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return covered.clamp(min=0) * cells / size


def resized(mask: Tensor, sizes: Sizes) -> Tensor:
    """(..., H, W) to (..., *sizes), by averages over areas; what is all white stays so."""
    height, width = (averaging(n, cells) for n, cells in zip(mask.shape[-2:], sizes, strict=True))
    return (height @ mask.double() @ width.mT).float().clamp(0, 1)
