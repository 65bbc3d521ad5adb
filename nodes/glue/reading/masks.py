"""Where a negative acts: a MASK, or the area and the mask of a CONDITIONING, as a share of each cell of a latent."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....vsf_core.areas import Sizes, resized

Area = tuple[Any, ...]
"""As ComfyUI's area conditionings have it: sizes along the latent's last axes, then where it begins; parts of the whole if
"percentage" stands before them."""

@dataclass(frozen=True, eq=False)
class Region:
    """Where a negative acts: wherever all masks are white, (B, H, W) in [0, 1], and all areas are. Without any, everywhere."""
    masks: tuple[Tensor, ...] = ()
    areas: tuple[Area, ...] = ()

    @property
    def is_everywhere(self) -> bool:
        return not self.masks and not self.areas

    @property
    def why_off(self) -> str:
        """Why a negative is off there, to be said on its node; "" if it is not."""
        return "its mask is black all over" if any(not mask.any() for mask in self.masks) else ""

    def within(self, other: Region) -> Region:
        """Where both are."""
        return Region(self.masks + other.masks, self.areas + other.areas)

    def over(self, sizes: Sizes, batch: int) -> Tensor:
        """m of each cell of a latent, (1 or batch, *sizes). Raises ValueError, for the user to read, for masks of which it
        cannot be known what they belong to."""
        m = torch.ones(1, *sizes)
        for mask in self.masks:
            m = m * _frames(resized(mask, sizes[-2:]), sizes, batch)
        for area in self.areas:
            m = m * _box(area, sizes)
        return m


EVERYWHERE = Region()


def of_mask(mask: Any) -> Region:
    """A MASK input, (H, W) or (B, H, W), as a Region. One that is white all over is none: the negative then is bit for bit what
    it is without. Raises ValueError for the user to read."""
    if mask is None:
        return EVERYWHERE
    if isinstance(mask, Tensor) and mask.ndim == 2:
        mask = mask[None]
    if isinstance(mask, Tensor) and mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if not isinstance(mask, Tensor) or mask.ndim != 3 or 0 in mask.shape:
        found = f"one of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"VSF: connect a mask to `mask`, or leave it empty. Expected a mask (pictures, height, width), found "
                         f"{found}.")
    mask = mask.detach().float().cpu()
    if not mask.isfinite().all():
        raise ValueError("VSF: make the mask anew. Expected brightness from 0 to 1, found values that are not finite.")
    mask = mask.clamp(0, 1)
    return EVERYWHERE if mask.min() == 1 else Region((mask,))


def of_conditioning(options: dict[str, Any]) -> Region:
    """Where an entry of a CONDITIONING acts (Conditioning Set Area, Set Mask). Raises ValueError, for the user to read."""
    region = of_mask(options.get("mask"))
    if (area := options.get("area")) is not None:
        numbers = area[1:] if area[0] == "percentage" else area
        if len(numbers) % 2 or any(n < 0 for n in numbers):
            raise ValueError("VSF: set the area of the negative anew. Expected sizes and where they begin, found "
                             f"{tuple(area)}.")
        region = region.within(Region(areas=(tuple(area),)))
    return region


def _frames(mask: Tensor, sizes: Sizes, batch: int) -> Tensor:
    """(B, h, w) to (1 or batch, [frames,] h, w). One for all; or for a video one a frame, of the latent or of the video, of
    which the first latent frame holds one and each other an equal number; or one for each picture or video of the batch."""
    count, frames = len(mask), sizes[0] if len(sizes) > 2 else 1
    if count > 1 and frames > 1 and (count - 1) % (frames - 1) == 0:
        later = mask[1:].unflatten(0, (frames - 1, -1)).mean(dim=1)
        return torch.cat([mask[:1], later])[None]
    if count not in (1, batch):
        each = f", {frames} or as many as the video has frames" if frames > 1 else ""
        raise ValueError(f"VSF: connect one mask for all, or one for each picture or frame. Expected 1{each} or {batch} "
                         f"(pictures in the batch), found {count}.")
    return mask.reshape(count, *[1] * (len(sizes) - 2), *mask.shape[1:])


def _box(area: Area, sizes: Sizes) -> Tensor:
    """1 within an area, 0 elsewhere, (1, *sizes): cells as ComfyUI counts them (comfy/samplers.py,
    resolve_areas_and_cond_masks_multidim)."""
    parts = area[1:] if area[0] == "percentage" else area
    axes = min(len(parts) // 2, len(sizes))
    lengths, starts = (parts[i:len(parts) // 2 + i][-axes:] for i in (0, len(parts) // 2))
    box = torch.zeros(1, *sizes)
    inside = [slice(None)] * (1 + len(sizes) - axes)
    for length, start, size in zip(lengths, starts, sizes[-axes:], strict=True):
        if area[0] == "percentage":
            length, start = max(1, round(length * size)), round(start * size)
        inside.append(slice(start, start + length))
    box[tuple(inside)] = 1.0
    return box


