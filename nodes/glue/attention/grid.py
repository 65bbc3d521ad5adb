"""How an attention's image tokens come of the picture: from a mask to its tokens, and from what is noted of tokens to a map.

A picture, a video or a sound is cut into patches, row by row and frame by frame. families/pictures.py knows of what size, and
what else there is among the image tokens: references, an audio track, padding, learned tokens.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, pad

from ....vsf_core.areas import resized

Size = tuple[int, int, int]
"""Frames, height, width. A picture has one frame; a sound is one row."""


def size_of(sizes: tuple[int, ...]) -> Size:
    """Of the last axes of a latent, behind (B, C)."""
    frames, height, width = (1, 1, *sizes)[-3:]
    return frames, height, width


def cells_of(size: Size, patch: Size) -> Size:
    """How many patches there are in it, those at its ends whole."""
    frames, height, width = (-(-n // p) for n, p in zip(size, patch, strict=True))
    return frames, height, width


@dataclass(frozen=True)
class Grid:
    """The picture among image tokens.

    patch: cells of the latent in one token, along its last axes; or sizes: tokens along them, of equal parts of the latent.
    The tokens lie line by line, frame by frame. before: image tokens before the picture's; all others come after.
    frames: how many of the latent's frames are the picture, the first ones; None for all. The others are guides to it, of which
    the model may leave out tokens. beside: cells that the model puts on the right of the picture.
    """
    patch: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    before: int = 0
    frames: int | None = None
    beside: int = 0

    @property
    def cell(self) -> Size:
        """Cells of the latent along each side of a token."""
        return size_of(self.patch)

    def fits(self, size: Size, count: int) -> bool:
        """Whether so many image tokens can have a picture of this size among them: an attention may be over something else."""
        frames, height, width = cells_of((self.frames or size[0], size[1], size[2] + self.beside), self.cell)
        return self.before + frames * height * width <= count

    def tokens(self, m: Tensor, count: int) -> Tensor:
        """(R, [frames,] height, width) to (R, count); tokens that are none of the picture's get what `without_place` says.
        Raises RuntimeError, for the user to read, where they cannot be these."""
        m = m[:, :self.frames] if self.frames is not None and m.ndim > 3 else m
        mean = without_place(m)
        if self.beside:
            m = torch.cat([m, mean.view(-1, *[1] * (m.ndim - 1)).expand(*m.shape[:-1], self.beside)], dim=-1)
        if self.sizes:
            m = resized(m, self.sizes)
        else:
            m = _patched(m.reshape(len(m), *(1,) * (4 - m.ndim), *m.shape[1:]), self.cell)
        m = m.flatten(1)
        after = count - self.before - m.shape[1]
        if after < 0:
            raise RuntimeError("VSF: leave `mask` empty, or bypass the node that changes the size of the picture within the "
                               f"model. Expected {self.before + m.shape[1]} image tokens or more in attention, found {count}.")
        return torch.cat([mean.expand(-1, self.before), m, mean.expand(-1, after)], dim=1)

    def picture(self, values: Tensor, size: Size) -> Tensor:
        """(..., image tokens) to (..., *cells_of(size, cell)), of a latent of this size, guides too: zero where the model has
        left out their tokens, which are the last."""
        frames, height, width = cells_of((size[0], size[1], size[2] + self.beside), self.cell)
        own = values[..., self.before:self.before + frames * height * width]
        own = pad(own, (0, frames * height * width - own.shape[-1])).unflatten(-1, (frames, height, width))
        return own[..., :cells_of(size, self.cell)[2]]


def without_place(m: Tensor) -> Tensor:
    """m of a token that shows no part of the picture (filler, reference, guide, sound): its mean over the picture, (R, ...) to
    (R, 1). So there is no step at either end: a mask that is white but for a pixel does what none does, but for a pixel, and
    one that is black but for a pixel next to nothing. Whether a reference shows the picture's own places is not known."""
    return m.flatten(1).mean(dim=1, keepdim=True)


def _patched(m: Tensor, patch: Size) -> Tensor:
    """(R, T, H, W) by patches, each the mean of those of its cells that there are."""
    missing = [-n % p for n, p in zip(m.shape[1:], patch, strict=True)]
    both = pad(torch.stack([m, torch.ones_like(m)]), [n for last in reversed(missing) for n in (0, last)])
    white, there = avg_pool3d(both, patch, patch)
    return white / there
