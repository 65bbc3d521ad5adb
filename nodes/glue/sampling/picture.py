"""Which of an attention's image tokens are the picture that is sampled, and where in it they lie.

Image tokens are also references, an audio track, padding and learned tokens. A picture is cut into patches, row by row and
frame by frame; most models say of what size (`patch_size`), a UNet has a patch of another size on each level.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..families import Family, ModelCall

Size = tuple[int, int, int]
"""Frames, height, width. A picture has one frame; a sound is one row."""

LEVELS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Grid:
    """The picture among image tokens: from `start` on `tokens`, each of them a patch of `patch` latent pixels."""
    start: int
    tokens: Size
    patch: Size

    @property
    def count(self) -> int:
        return math.prod(self.tokens)


def size_of(shape: tuple[int, ...]) -> Size:
    """Of a latent (B, C, ...)."""
    frames, height, width = (1, 1, *shape[2:])[-3:]
    return frames, height, width


def cells_of(size: Size, patch: Size) -> Size:
    """How many patches there are in it, those at its ends whole."""
    frames, height, width = (-(-n // p) for n, p in zip(size, patch, strict=True))
    return frames, height, width


def size_in(call: ModelCall) -> Size:
    """Of a call's picture or video: the first of what is packed into one latent."""
    shapes = call.conds.get("latent_shapes") or ()
    return size_of(tuple(shapes[0] if len(shapes) > 1 else call.x.shape))


def grid_of(call: ModelCall, family: Family, tokens: int) -> Grid | None:
    """Where the picture is among so many image tokens; None for tokens of which none is the picture's."""
    size = size_in(call)
    patch = _declared(call, family)
    found = [patch] if patch else [(1, p, p) for p in LEVELS] if size[1] > 1 else [(1, 1, p) for p in LEVELS]
    for own in found:
        grid = cells_of(size, own)
        if patch or math.prod(grid) == tokens:
            start = getattr(family, "picture_start", _first)(call, tokens, math.prod(grid))
            return None if start is None else Grid(start, grid, own)
    return None


def _first(call: ModelCall, tokens: int, own: int) -> int | None:
    """The picture comes first, as in most models; an attention of fewer tokens is over something else."""
    return 0 if own <= tokens else None


def _declared(call: ModelCall, family: Family) -> Size | None:
    """How large a token's patch is, as the model says."""
    model = call.base_model.diffusion_model
    if (patch := getattr(family, "patch", None)) is not None:
        return patch(model)
    own: Any = getattr(model, "patch_size", getattr(model, "patch", None))
    if own is None:
        return None
    own = (own, own) if isinstance(own, int) else tuple(own)
    frames, height, width = (getattr(model, "patch_size_t", None) or 1, *own) if len(own) == 2 else own
    return frames, height, width
